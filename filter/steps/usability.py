"""Drop traces that no student could learn from, and those that a recipe does not want by their
length or verdict.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from filter.steps.step import RowStep, Student
from tracestill.recipe.filter_steps import Length
from tracestill.records import AnyTrace, Drop, Outcome, Verdict
from tracestill.records.usable import unusable


def form(*, needs_reasoning: bool) -> RowStep:
    """Drop what `tracestill.records.usable.unusable` finds: `error`, `truncated`, `malformed`,
    `empty`. Traces without reasoning pass unless the student `needs_reasoning`.
    """

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        for trace in traces:
            drop = unusable(trace, needs_reasoning=needs_reasoning)
            if drop is not None:
                yield drop

    return step


def length(
    settings: Length, tasks: Mapping[str, str] | None = None, student: Student | None = None
) -> RowStep:
    """Drop traces by their tokens: `too_short`, `too_long`. `tasks` are those of problems by id,
    where bounds differ by source.
    """

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        rows = list(traces)
        counts: Sequence[int] = [trace.completion_tokens for trace in rows]
        if settings.count == "student":
            assert student is not None, "the caller gives the student where a step needs it"
            counts = student.tokens(rows)
        for trace, tokens in zip(rows, counts, strict=True):
            bounds = settings.sources.get((tasks or {}).get(trace.problem_id, ""), settings)
            low, high = bounds.min_tokens, bounds.max_tokens
            if low is not None and tokens < low:
                detail = f"{tokens} tokens, at least {low} are kept"
                yield Drop(trace_id=trace.id, step="length", reason="too_short", detail=detail)
            elif high is not None and tokens > high:
                detail = f"{tokens} tokens, at most {high} are kept"
                yield Drop(trace_id=trace.id, step="length", reason="too_long", detail=detail)

    return step


_REASONS: dict[Outcome, str] = {"error": "verifier_error"}  # of the others, the outcome itself


def verdict(verdicts: Mapping[str, Verdict], keep: Collection[str]) -> RowStep:
    """Drop traces whose verdict's outcome is not in `keep`: `incorrect`, `unverifiable`,
    `verifier_error` (or `correct`, where a recipe keeps the unverifiable alone); `empty` where
    there is no answer to judge.

    `verdicts` are by trace id and hold one for every trace that has an answer.
    """

    def step(traces: Iterable[AnyTrace]) -> Iterator[Drop]:
        for trace in traces:
            found = verdicts.get(trace.id)
            if found is None:
                yield Drop(trace_id=trace.id, step="verify", reason="empty", detail="no answer")
            elif found.outcome not in keep:
                reason = _REASONS.get(found.outcome, found.outcome)
                yield Drop(trace_id=trace.id, step="verify", reason=reason, detail=found.detail)

    return step
