"""`tracestill preview`: see samples as the student will learn them, before anything is trained."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finetune.overlong import describe
from generate.config import ImportTeacher
from tracestill.records import Problem, read_manifest, read_table

if TYPE_CHECKING:
    from rich.console import Console

    from finetune.contract import Contract
    from finetune.render import Example, Rendered, Sample
    from tracestill.recipe import Recipe

Part = Literal["prompt", "reasoning", "answer", "stop"]

_STYLES: dict[Part, str] = {
    "prompt": "dim", "reasoning": "yellow", "answer": "green", "stop": "bold red",
}  # fmt: skip
# What stands in their place where there is no colour.
_MARKS: dict[Part, str] = {
    "prompt": "", "reasoning": "⟦reasoning⟧", "answer": "⟦answer⟧", "stop": "⟦stop⟧",
}  # fmt: skip
_SHOWN = 1_200  # characters of a long part, at its beginning and at its end
_REASONING = "Here stands how the teacher reasons.\n\nIt can take thousands of tokens."
_ANSWER = "Here stands what it answers."


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Rendered samples and where they come from, in words; `real`: from traces that are there.
    `shown` are those to look at.
    """

    rendered: Rendered
    shown: list[Sample]
    origin: str
    real: bool
    examples: dict[str, Example]
    tokenizer: Any
    control: Any


def preview(recipe: Recipe, run: Path, count: int, trace: str | None) -> Preview:
    """Render and check a run's kept traces, or before there are any the recipe's first problems
    with a made-up trace; `trace` alone if one is named.

    Raises:
        ValueError: there is no such trace, none at all, or the samples would teach something else
            than they say, as in the training's own checks.

    """
    from tracestill.stages import kept_examples

    settings = recipe.finetune
    real = read_manifest(run / "filter") is not None
    if real:
        examples = kept_examples(recipe, run)
        origin = f"the {len(examples):,} kept traces of {run}"
    else:
        examples = _made_up(recipe, run, count)
        origin = f"made-up traces of the recipe's first problems, since {run} has none yet"
    if trace is not None:
        examples = [one for one in examples if one.trace_id.startswith(trace)]
        if not examples:
            raise ValueError(f"--trace {trace}: there is none with such an id in {origin}")
    if Path(settings.student).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from finetune.prepare import prepare
    from finetune.render import prompt_text
    from finetune.unlearnable import read_control

    checked = prepare(examples, settings, settings.student, Path(settings.template))
    rendered, tokenizer = checked.rendered, checked.tokenizer
    control = read_control(
        tokenizer, checked.contract, prompt_text(tokenizer, ""), rendered.endings
    )
    return Preview(
        rendered=rendered,
        shown=rendered.samples if trace else _spread(rendered.samples, count),
        origin=origin,
        real=real,
        examples={example.trace_id: example for example in examples},
        tokenizer=tokenizer,
        control=control,
    )


def _made_up(recipe: Recipe, run: Path, count: int) -> list[Example]:
    """The first problems, each with a trace that shows where one stands."""
    if isinstance(recipe.generate, ImportTeacher):
        raise ValueError(
            f"{run} has no kept traces yet, and the recipe's problems come with them: "
            "`tracestill filter RECIPE` imports and filters them"
        )
    from finetune.render import Example
    from tracestill.evaluate.run import task_of

    problems = itertools.islice(_problems(recipe, run), count)
    return [
        Example(
            trace_id=f"made-up-{index}",
            prompt=problem.prompt,
            reasoning=_REASONING,
            answer=_ANSWER,
            source=task_of(problem),
            language=problem.language,
        )
        for index, problem in enumerate(problems, 1)
    ]


def _problems(recipe: Recipe, run: Path) -> Iterator[Problem]:
    if read_manifest(run / "problems") is not None:
        return iter(read_table(run / "problems", "train", Problem))
    from generate.problems import stream_problems

    said = recipe.problems.instruction
    return stream_problems(recipe.problems.train, Counter(), instruction=said)


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` of the samples from the shorter to the longer ones, in even steps."""
    by_length = sorted(samples, key=lambda sample: len(sample.input_ids))
    count = min(count, len(samples))
    return [by_length[int((step + 0.5) * len(samples) / count)] for step in range(count)]


def print_preview(seen: Preview, recipe: Recipe) -> None:
    """The contract, the samples and their numbers; without colour, marks stand where each learnt
    part begins.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    plain = console.no_color or console.color_system is None
    settings = recipe.finetune
    console.print(f"Student: {settings.student}", markup=False)
    template = Path(settings.template).name
    console.print(f"Template: {template}: {_contract(seen.rendered.contract)}", markup=False)
    console.print(f"Samples: from {seen.origin}", markup=False)
    console.print(_legend(plain))
    for sample in seen.shown:
        _print_sample(console, seen, sample, plain, whole=len(seen.shown) == 1)
    console.print()
    if seen.real:  # a made-up trace says nothing of lengths
        for line in _numbers(seen.rendered, recipe):
            console.print(line, markup=False)
    many = len(seen.rendered.samples)
    which = "It passes" if many == 1 else f"All {many:,} pass"
    console.print(f"{which} the checks that are made before the first step.")


def _contract(contract: Contract) -> str:
    opens = contract.opens.strip()
    does = "the prompt opens" if contract.think == "prefilled" else "the student writes"
    others = f" ({', '.join(contract.eos)} would too)" if contract.eos else ""
    return f"{does} {opens}; {contract.stop} is learnt and ends a generation{others}"


def _legend(plain: bool) -> Any:
    from rich.text import Text

    if plain:
        return Text("Learnt is what follows ⟦reasoning⟧, ⟦answer⟧ and ⟦stop⟧; the rest is prompt.")
    legend = Text("Not learnt: ")
    legend.append("prompt", _STYLES["prompt"])
    legend.append("; learnt: ")
    for part in ("reasoning", "answer", "stop"):
        legend.append(part, _STYLES[part])
        legend.append("." if part == "stop" else ", ")
    return legend


def _print_sample(
    console: Console, seen: Preview, sample: Sample, plain: bool, *, whole: bool
) -> None:
    from rich.text import Text

    example = seen.examples[sample.trace_id]
    tokens: dict[Part, int] = {}
    text = Text()
    for part, ids in parts(sample, seen.rendered.endings[0]):
        tokens[part] = len(ids)
        if plain:
            text.append(_MARKS[part])
        for piece, control in _pieces(ids, seen):
            style = f"{_STYLES[part]} bold" if control else _STYLES[part]
            text.append(piece if whole else _shortened(piece), style)
    about = " · ".join(filter(None, (example.source, example.language)))
    counts = ", ".join(f"{n:,} {part}" for part, n in tokens.items() if part != "stop")
    title = f"trace {sample.trace_id} · {about} · tokens: {counts}"
    console.print()
    if plain:
        console.print(f"--- {title}", markup=False)
    else:
        console.rule(Text(title), align="left", style="dim")
    console.print(text)


def parts(sample: Sample, stop: int) -> Iterator[tuple[Part, Any]]:
    """A sample's parts in order, with their ids; those that it has not are left out."""
    ids = sample.input_ids
    end = len(ids) - int(ids[-1] == stop)
    bounds: list[tuple[Part, int, int]] = [
        ("prompt", 0, sample.prompt),
        ("reasoning", sample.prompt, min(sample.answer, end)),
        ("answer", min(sample.answer, end), end),
        ("stop", end, len(ids)),
    ]
    for part, begin, until in bounds:
        if until > begin:
            yield part, ids[begin:until]


def _pieces(ids: Any, seen: Preview) -> Iterator[tuple[str, bool]]:
    """The text of ids, control tokens apart."""
    from finetune.encoding import decode

    for control, several in itertools.groupby(ids.tolist(), lambda token: seen.control.ids[token]):
        (text,) = decode(seen.tokenizer, [list(several)])
        yield text.replace("\x1b", "␛"), bool(control)  # a trace must not steer the terminal


def _shortened(text: str) -> str:
    if len(text) <= 3 * _SHOWN:
        return text
    left = len(text) - 2 * _SHOWN
    return f"{text[:_SHOWN]}\n⟦… {left:,} characters are not shown …⟧\n{text[-_SHOWN:]}"


def _numbers(rendered: Rendered, recipe: Recipe) -> Iterator[str]:
    """How much is learnt, how full the rows are, and what is left out."""
    from finetune.packing import pack

    settings, samples = recipe.finetune, rendered.samples
    lengths = [len(sample.input_ids) for sample in samples]
    total = sum(lengths)
    reasoning = sum(sample.answer - sample.prompt for sample in samples)
    answer = sum(len(sample.input_ids) - sample.answer for sample in samples)
    many = "sample" if len(samples) == 1 else "samples"
    yield (
        f"{len(samples):,} {many}, {total:,} tokens: {(total - reasoning - answer) / total:.1%} "
        f"prompt, {reasoning / total:.1%} reasoning, {answer / total:.1%} answer; the longest has "
        f"{max(lengths):,}"
    )
    if settings.packing:
        rows = len(pack(lengths, settings.max_length))
        fill = total / (rows * settings.max_length)
        yield (
            f"Packed: {rows:,} {'row' if rows == 1 else 'rows'} of {settings.max_length:,} tokens, "
            f"{fill:.1%} filled"
        )
    yield from describe(rendered.overlong.details())
    for line in rendered.refused.lines():
        yield f"Left out: {line}"
