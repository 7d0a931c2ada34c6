"""Drop traces by regular expressions in their problem's prompt, their reasoning or their answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from filter.steps.step import RowStep
from tracestill.recipe.filter_steps import Pattern
from tracestill.records import AnyTrace, Drop, Problem
from tracestill.records.patterns import user_finder
from tracestill.records.private import Finder
from tracestill.records.texts import shortened

_SHOWN = 100  # characters of what matches


def pattern(settings: Pattern, prompts: Collection[str] = ()) -> RowStep:
    """Drop traces in which one of the expressions is found: `pattern`. `prompts` are the ids of the
    problems in whose prompts one is (`problems_with`), where that is what is searched.
    """
    finders = _finders(settings)

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        for trace in traces:
            found: str | None = None
            if settings.on == "prompt":
                found = "its problem's prompt" if trace.problem_id in prompts else None
            else:
                text = (trace.reasoning if settings.on == "reasoning" else trace.answer) or ""
                spans = (span for find in finders for span in find(text))
                if (first := next(spans, None)) is not None:
                    found = f"its {settings.on}: {shortened(text[slice(*first)], _SHOWN)}"
            if found is not None:
                yield Drop(trace_id=trace.id, step="pattern", reason="pattern", detail=found)

    return step


def problems_with(settings: Pattern, problems: Iterable[Problem]) -> frozenset[str]:
    """The ids of the problems in whose prompts an expression is found."""
    finders = _finders(settings)
    return frozenset(p.id for p in problems if any(True for f in finders for _ in f(p.prompt)))


def _finders(settings: Pattern) -> list[Finder]:
    return [user_finder(one, f"filter.steps: pattern: {one!r}") for one in settings.drop]
