"""Drop traces by what the recipe wants to keep: outcomes, and how many of a problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from tracestill.records import Drop, Outcome, Trace, Verdict, digest

_REASONS: dict[Outcome, str] = {"error": "verifier_error"}  # of the others, the outcome itself


def verdict(
    verdicts: Mapping[str, Verdict], keep: Collection[str]
) -> Callable[[Iterable[Trace]], Iterator[Drop]]:
    """Drop traces whose verdict's outcome is not in `keep`: `incorrect`, `unverifiable`,
    `verifier_error` (or `correct`, where a recipe keeps the unverifiable alone).

    `verdicts` are by trace id and hold one for every trace that has an answer.
    """

    def step(traces: Iterable[Trace]) -> Iterator[Drop]:
        for trace in traces:
            found = verdicts[trace.id]
            if found.outcome not in keep:
                reason = _REASONS.get(found.outcome, found.outcome)
                yield Drop(trace_id=trace.id, step="verify", reason=reason, detail=found.detail)

    return step


def max_per_problem(limit: int) -> Callable[[Iterable[Trace]], Iterator[Drop]]:
    """Drop all but the first `limit` traces of each problem: `over_cap`."""

    def step(traces: Iterable[Trace]) -> Iterator[Drop]:
        seen: Counter[str] = Counter()
        for trace in traces:
            seen[trace.problem_id] += 1
            if seen[trace.problem_id] > limit:
                yield Drop(
                    trace_id=trace.id,
                    step="max_per_problem",
                    reason="over_cap",
                    detail=f"number {seen[trace.problem_id]} of its problem, {limit} are kept",
                )

    return step


def max_traces(limit: int) -> Callable[[Iterable[Trace]], Iterator[Drop]]:
    """Drop all but `limit` traces, chosen evenly by a hash of their identity: `over_budget`."""

    def step(traces: Iterable[Trace]) -> Iterator[Drop]:
        ids = [trace.id for trace in traces]
        chosen = set(sorted(ids, key=lambda trace: digest("budget", trace))[:limit])
        for trace in ids:
            if trace not in chosen:
                detail = f"{len(ids)} traces were left, {limit} are kept"
                yield Drop(trace_id=trace, step="max_traces", reason="over_budget", detail=detail)

    return step
