"""Drop traces by regular expressions in their problem's prompt, their reasoning or their answer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from filter.steps.step import RowStep
from tracestill.recipe.filter_steps import Pattern
from tracestill.records import AnyTrace, Drop, Problem
from tracestill.records.texts import shortened

_SHOWN = 100  # characters of what matches


def pattern(settings: Pattern, prompts: Collection[str] = ()) -> RowStep:
    """Drop traces in which one of the expressions is found: `pattern`. `prompts` are the ids of the
    problems in whose prompts one is (`problems_with`), where that is what is searched.
    """
    compiled = _compiled(settings)

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        for trace in traces:
            found: str | None = None
            if settings.on == "prompt":
                found = "its problem's prompt" if trace.problem_id in prompts else None
            else:
                text = (trace.reasoning if settings.on == "reasoning" else trace.answer) or ""
                match = next((m for m in (one.search(text) for one in compiled) if m), None)
                found = match and f"its {settings.on}: {shortened(match[0], _SHOWN)}"
            if found is not None:
                yield Drop(trace_id=trace.id, step="pattern", reason="pattern", detail=found)

    return step


def problems_with(settings: Pattern, problems: Iterable[Problem]) -> frozenset[str]:
    """The ids of the problems in whose prompts an expression is found."""
    compiled = _compiled(settings)
    return frozenset(p.id for p in problems if any(one.search(p.prompt) for one in compiled))


def _compiled(settings: Pattern) -> list[re.Pattern[str]]:
    return [re.compile(one) for one in settings.drop]
