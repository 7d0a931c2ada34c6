"""Find personal data and secrets in traces that their problems do not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from filter.steps.step import RowStep
from tracestill.recipe.filter_steps import Private
from tracestill.records import AnyTrace, Drop
from tracestill.records.private import finder


def private(settings: Private, prompts: Mapping[str, str]) -> RowStep:
    """Drop traces in whose reasoning or answer something private is found: `email`, `phone`,
    `iban`, `key`. Where the step drops nothing, it tells each kind that a trace holds.

    `prompts` are by problem id and hold those that have something private in them (`tells`): that
    does not count in their traces, however it is spaced there. A drop's detail shows the first
    three characters, so that no secret is written down once more.
    """
    finders = {kind: finder(kind, settings.phone_countries) for kind in settings.kinds}

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        for trace in traces:
            given = _bare(prompts.get(trace.problem_id, ""))
            texts = {"reasoning": trace.reasoning or "", "answer": trace.answer or ""}
            for kind, find in finders.items():
                detail = next(
                    (
                        f"{text[begin : begin + 3]}… ({end - begin} characters) in the {name}"
                        for name, text in texts.items()
                        for begin, end in find(text)
                        if not given or _bare(text[begin:end]) not in given
                    ),
                    None,
                )
                if detail is not None:
                    yield Drop(trace_id=trace.id, step="private", reason=kind, detail=detail)
                    if settings.action != "keep":
                        break

    return step


def tells(settings: Private) -> Callable[[str], bool]:
    """A function that says whether a prompt holds something private."""
    finders = [finder(kind, settings.phone_countries) for kind in settings.kinds]
    return lambda prompt: any(True for find in finders for _ in find(prompt))


def _bare(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()
