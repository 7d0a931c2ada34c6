"""The page of the filter's steps, docs/which-filter-does-what.md, to which
`python -m website.filter_steps` prints it.

Names, words and defaults come from the recipe's schema. Each example is filtered when the page is
made, so that what it says becomes of a trace is what the step does.
"""

from __future__ import annotations

import json
import textwrap
import typing
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from filter.filtering import filter_traces
from tracestill.recipe.filter import FilterSection
from tracestill.recipe.filter_steps import DEFAULT, Step
from tracestill.recipe.section import Section
from tracestill.records import Problem, TraceText, problem_id
from tracestill.records.progress import ignore_progress
from website.recipe_keys import said_of

HEAD = """\
# Which filter does what

The filter asks each trace through its steps, in the order of the recipe's list. The first step
that a trace fails drops it, with a reason. Nothing is deleted: the table `drops` has every
dropped trace. This page has one section a step: what it drops, an example, what it costs. What
the settings are for is told by [filtering](filter.md).

```yaml
filter:
  steps: [{default}]      # the default
```

{choice}
Costs in seconds are those of two processes together for 40,000 traces of 15 kB (0.6 GB), measured
on an older AMD EPYC with AVX2 ([recorded](../benchmarks/README.md)). The whole default list took
42.5 seconds of wall time. Where another figure stands, it says of what it is.

| step | by default | drops | cost |
| --- | --- | --- | --- |
"""
CHOICE = """\
Which to add: `length` or `select` to keep to a budget of training, `private` for traces that come
from people's data, `near` with `on: problem` or `semantic` for sets put together from several,
`pattern` for what is peculiar to your data. Which to leave out: `verify` where answers have no
reference (and no [agreement or judge](recipes.md#what-no-rule-can-judge) to take its place).
"""

WIDTH = 110
PROMPT = "A baker sells 12 rolls a day. How many rolls does she sell in 7 days?"
GOOD = "Each day she sells 12 rolls. Over 7 days that makes 12 times 7, which is 84."
ANSWER = "\\boxed{84}"
LONGER = (
    "She sells 12 rolls on the first day, and 12 on each of the six days after it. Seven times ten "
    "is 70, seven times two is 14, and together that makes 84 rolls in the whole week."
)
GERMAN = (
    "Jeden Tag verkauft sie zwölf Brötchen. In einer ganzen Woche sind das also sieben mal zwölf "
    "Brötchen, und das ergibt zusammen genau vierundachtzig, wie man leicht nachrechnen kann."
)
EXAM = (
    "A farmer has seventeen sheep and buys four more at the market, then sells half of all of "
    "them. How many sheep are left?"
)


@dataclass(frozen=True, slots=True)
class Given:
    """A trace of an example."""

    reasoning: str | None = GOOD
    answer: str | None = ANSWER
    finish: Any = "stop"
    tokens: int = 30
    prompt: str = PROMPT


@dataclass(frozen=True, slots=True)
class Told:
    """What the page says of a step beyond its schema: the settings and the traces of its example,
    and what it costs.
    """

    cost: str
    given: list[Given] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    heldout: str | None = None
    without: str = ""
    """Why there is no example."""


TOLD = {
    "refusal": Told("0.2 s; one core searches 350 MB/s", [
        Given(reasoning="", answer="I'm sorry, but I can't assist with that."),
        Given(),
    ]),
    "form": Told("1.0 s", [
        Given(reasoning="Each day she sells 12 rolls. Over", answer=None, finish="length"),
        Given(reasoning="", answer=ANSWER),
        Given(),
    ]),
    "length": Told("not measured by itself", [Given(tokens=412), Given()], {"max_tokens": 200}),
    "pattern": Told("not measured by itself", [
        Given(reasoning=f"As the reference solution says, it is 84. {GOOD}"), Given(),
    ], {"on": "reasoning", "drop": ["(?i)reference solution"]}),
    "verify": Told("5.9 s, for mathematics; programs take as long as they run", [
        Given(answer="\\boxed{86}"), Given(),
    ]),
    "quality": Told("14.9 s", [
        Given(reasoning=" ".join([GOOD, *["Wait, let me think about that once more."] * 20])),
        Given(reasoning="Seven days, and the same number each day: a product."),
        Given(),
    ]),
    "language": Told("10.3 s", [Given(reasoning=GERMAN), Given(reasoning=LONGER)]),
    "private": Told("one core searches 9 MB/s, and 1 MB/s with a country", [
        Given(reasoning=f"{GOOD} Ask maria.keller@backhaus-keller.de for her list."), Given(),
    ], {"action": "drop"}),
    "contamination": Told("less than 0.1 s; benchmarks of 3,253 items are looked for at 204 MB/s", [
        Given(prompt=f"Please solve this. {EXAM}", reasoning="Half of 21 is 10.5."), Given(),
    ], heldout=EXAM),
    "exact": Told("15.0 s", [Given(), Given(reasoning=GOOD.replace(". ", ".\n"))]),
    "near": Told("18.4 s", [
        Given(reasoning=LONGER), Given(reasoning=LONGER.replace("whole", "full")),
    ], {"threshold": 0.7}),
    "semantic": Told(
        "3 s for 40,000 texts of 256 dimensions, on two cores",
        without="It needs a model of embeddings, so no example is made here. It drops a problem "
        "that asks the same as another in other words.",
    ),
    "select": Told(
        "little, but for the orders that ask the student: a pass or four of it over all traces",
        [Given(tokens=30), Given(reasoning=LONGER, tokens=55)],
        {"by": "shortest", "per_problem": 1},
    ),
}  # fmt: skip
"""What is told of each step of the recipe's schema, by its name."""


def page() -> str:
    """The page in Markdown."""
    head = HEAD.replace("{default}", ", ".join(DEFAULT)).replace("{choice}", CHOICE)
    names = [*DEFAULT, *(name for name in Step.model_fields if name not in DEFAULT)]
    rows = []
    for name in names:
        place = f"step {DEFAULT.index(name) + 1}" if name in DEFAULT else "no"
        words = _words(name).partition(". ")[0].rstrip(".")
        rows.append(f"| [`{name}`](#{name}) | {place} | {words} | {TOLD[name].cost} |")
    sections = [_section(name) for name in names]
    return "\n".join([head + "\n".join(rows), "", *sections])


def _section(name: str) -> str:
    told = TOLD[name]
    lines = [f"## {name}", "", _words(name), ""]
    if told.without:
        lines += [textwrap.fill(told.without, WIDTH), ""]
    else:
        entry = f"{name}: {_flow(told.settings)}" if told.settings else name
        lines += [f"With `{entry}`:", "", "| a trace | becomes |", "| --- | --- |"]
        lines += [f"| {_shown(one, name)} | {_cell(what)} |" for one, what in filtered(name)]
        lines.append("")
    schema = _settings(name).model_json_schema()
    if properties := schema.get("properties"):
        lines += ["| key | default | |", "| --- | --- | --- |"]
        for key, value in properties.items():
            default = f"`{_flow(value['default'])}`" if "default" in value else ""
            default = "required" if key in schema.get("required", ()) else default
            lines.append(f"| `{key}` | {default} | {said_of(value, schema.get('$defs', {}))} |")
        lines.append("")
    lines.append(f"Cost: {told.cost}.")
    return "\n".join([*lines, ""])


@cache
def filtered(name: str) -> list[tuple[Given, str]]:
    """What the step makes of its example's traces."""
    told = TOLD[name]
    if not told.given:
        return []
    problems = {one.prompt: _problem(one.prompt) for one in told.given}
    traces = [
        TraceText(
            id=f"trace {number}", problem_id=problems[one.prompt].id, sample=number,
            reasoning=one.reasoning, answer=one.answer, finish=one.finish, error=None,
            completion_tokens=one.tokens,
        )
        for number, one in enumerate(told.given, 1)
    ]  # fmt: skip
    step = {name: told.settings} if told.settings else name
    result = filter_traces(
        traces,
        {one.id: one for one in problems.values()},
        [_problem(told.heldout)] if told.heldout else [],
        FilterSection(steps=[step], workers=1),
        ignore_progress,
    )
    reasons = {one.trace_id: f"`{one.reason}`: {one.detail}" for one in result.drops}
    return [
        (one, reasons.get(trace.id, "kept")) for one, trace in zip(told.given, traces, strict=True)
    ]


def _problem(prompt: str) -> Problem:
    return Problem(
        id=problem_id(prompt, "84"), prompt=prompt, reference="84", kind="math", source="example"
    )


def _settings(name: str) -> type[Section]:
    """The class of a step's settings."""
    kinds = typing.get_args(Step.model_fields[name].annotation)
    found: type[Section] = kinds[0]
    return found


def _words(name: str) -> str:
    return " ".join((_settings(name).__doc__ or "").split())


def _shown(given: Given, step: str) -> str:
    """A trace in a cell of a table."""
    prompt = "" if given.prompt == PROMPT else f"to *{given.prompt}*: "
    thought = textwrap.shorten(given.reasoning or "", 230, placeholder=" …")
    end = "" if given.finish == "stop" else " (cut at `max_tokens`)"
    answer = "no answer" if given.answer is None else f"`{given.answer}`"
    tokens = f", {given.tokens} tokens" if step in ("length", "select") else ""
    return _cell(f"{prompt}{thought or 'no reasoning'} → {answer}{tokens}{end}")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return f"'{value}'" if isinstance(value, str) and not value.isidentifier() else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    print(page(), end="")
