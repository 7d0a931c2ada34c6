"""Find problems whose own reference is not judged to be right: no answer to them can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from filter.verify import Answer, verify_many
from filter.verify.code.tests_of import read_tests
from filter.verify.reasoning_gym import own_answer
from tracestill.records import Doubt, Problem


def doubtful(problems: Iterable[Problem]) -> list[Doubt]:
    """The problems whose reference, given as an answer, is not judged correct. Of programs only
    the tests are known: those that can't be read are doubtful. What nothing judges is left out,
    and what has no reference since many answers are right.
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
    """What is to be judged correct, if anything is."""
    if problem.kind == "reasoning_gym" and "entry" in problem.meta:
        return own_answer(problem)
    return None if problem.kind == "open" else problem.reference


def _unreadable(problem: Problem) -> Iterator[Doubt]:
    try:
        read_tests(problem.reference, problem.prompt)
    except ValueError as error:
        yield Doubt(problem_id=problem.id, outcome="unverifiable", detail=str(error))
