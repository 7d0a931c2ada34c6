"""The figures of a model's answers: from traces and verdicts alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tracestill.evaluate.statistics import by_problem, cons_at_k, pass_at_1, pass_at_k
from tracestill.recipe.filter_steps import Quality
from tracestill.records import Kind, Problem, Trace, Verdict
from tracestill.records.figures import ModelFigures
from tracestill.records.rates import Rate

# Requests without an answer: an endpoint failed, or the prompt left no room for one.
FAILED = ("error", "skipped")
# Of the others every sample is another text, so no answer is given by most of them.
_WITH_VOTE: tuple[Kind, ...] = ("math", "choice", "reasoning_gym")


def figures_of(
    traces: Sequence[Trace], verdicts: Sequence[Verdict], problems: Sequence[Problem]
) -> ModelFigures:
    """The figures of a model's answers, whose verdicts are in their order, without those to
    requests that failed.

    Raises:
        ValueError: there is no answer.

    """
    tasks = {problem.id: problem.task for problem in problems}
    answered = [trace for trace in traces if trace.finish not in FAILED]
    marks = marks_of(traces, verdicts)
    by_task: dict[str, list[tuple[str, bool]]] = {}
    for problem, right in marks:
        by_task.setdefault(tasks[problem], []).append((problem, right))
    outcomes = by_problem(marks)
    whole = pass_at_1(outcomes)
    most = max(map(len, outcomes.values()))
    votes = all(problem.kind in _WITH_VOTE for problem in problems)
    tokens = sum(trace.completion_tokens for trace in answered) / len(answered)
    return ModelFigures(
        pass_at_1=whole.pass_at_1,
        ci95=whole.ci95,
        problems=whole.problems,
        samples=whole.samples,
        by_task={
            task: pass_at_1(by_problem(by_task[task]))
            for task in dict.fromkeys(tasks.values())
            if task in by_task
        },
        mean_tokens=round(tokens, 1),
        truncated=sum(trace.finish == "length" for trace in answered),
        failed=len(traces) - len(answered),
        pass_at_k=_chances(outcomes, most),
        cons_at_k=cons_at_k(_votes(answered, verdicts)) if votes and most > 1 else None,
        closed=_closed(answered),
        loops=_loops(answered),
        per_thousand_tokens=round(whole.pass_at_1 / tokens * 1000, 4) if tokens else None,
        instructions=_instructions(verdicts),
    )


def marks_of(traces: Iterable[Trace], verdicts: Iterable[Verdict]) -> list[tuple[str, bool]]:
    """The problem of each answer and whether it is right; of requests that failed there is none."""
    answered = (trace for trace in traces if trace.finish not in FAILED)
    return [
        (trace.problem_id, verdict.outcome == "correct")
        for trace, verdict in zip(answered, verdicts, strict=True)
    ]


def _chances(outcomes: Mapping[str, Sequence[bool]], most: int) -> dict[int, Rate]:
    """pass@k for the powers of two up to the number of samples, and for that number."""
    ks = sorted({*(2**power for power in range(1, most.bit_length()) if 2**power < most), most})
    found = {k: pass_at_k(outcomes, k) for k in ks if k > 1}
    return {k: rate for k, rate in found.items() if rate is not None}


def _instructions(verdicts: Iterable[Verdict]) -> float | None:
    from filter.verify.ifeval import followed

    counts = followed(verdicts)
    return None if counts is None else round(counts[0] / counts[1], 6)


def _votes(
    answered: Sequence[Trace], verdicts: Sequence[Verdict]
) -> dict[str, list[tuple[bool, str | None]]]:
    votes: dict[str, list[tuple[bool, str | None]]] = {}
    for trace, verdict in zip(answered, verdicts, strict=True):
        vote = (verdict.outcome == "correct", verdict.extracted)
        votes.setdefault(trace.problem_id, []).append(vote)
    return votes


def _closed(answered: Sequence[Trace]) -> float | None:
    begun = [trace for trace in answered if trace.reasoning is not None]
    return sum(trace.answer is not None for trace in begun) / len(begun) if begun else None


def _loops(answered: Sequence[Trace]) -> int:
    """How many answers say their end over and over, more often than the filter's step `quality`
    lets pass.
    """
    from filter.measures import measure

    most = Quality().max_loops
    assert most is not None, "the step's default has a bound"
    texts = ["\n".join(part for part in (t.reasoning, t.answer) if part) for t in answered]
    return int((measure(texts, ()).loops > most).sum())
