"""Find problems whose own reference does not verify: no verdict on their answers can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from filter.verify import Answer, verify_many
from filter.verify.code.cases import read_tests
from filter.verify.gym import own_answer
from tracestill.records import Doubt, Problem


def doubtful(problems: Iterable[Problem]) -> list[Doubt]:
    """The problems whose reference, given as an answer, is not judged correct. A code problem has
    only tests, and is doubtful if they can't be read. Problems that nothing verifies, or that have
    no reference because many answers are right, are left out.
    """
    answers: list[Answer] = []
    found: list[Doubt] = []
    for problem in problems:
        if problem.kind == "code":
            found += _unreadable(problem)
            continue
        reference = _reference(problem)
        if reference is not None:
            text = f"\\boxed{{{reference.strip()}}}"
            answers.append(Answer(problem=problem, text=text, trace_id=problem.id))
    for verdict in verify_many(answers):
        if verdict.outcome != "correct":
            found.append(
                Doubt(problem_id=verdict.trace_id, outcome=verdict.outcome, detail=verdict.detail)
            )
    return found


def _reference(problem: Problem) -> str | None:
    """The answer that should verify as correct, if there is one."""
    if problem.kind == "reasoning_gym" and "entry" in problem.meta:
        return own_answer(problem)
    return None if problem.kind in ("open", "ifeval") else problem.reference


def _unreadable(problem: Problem) -> Iterator[Doubt]:
    try:
        read_tests(problem)
    except ValueError as error:
        yield Doubt(problem_id=problem.id, outcome="unverifiable", detail=str(error))
