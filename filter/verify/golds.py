"""Find problems whose own reference is not judged to be right: no answer to them can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from filter.verify import Answer, verify_many
from filter.verify.code.tests_of import read_tests
from tracestill.records import Doubt, Problem


def doubtful(problems: Iterable[Problem]) -> list[Doubt]:
    """The problems whose reference, given as an answer, is not judged correct. Of programs only
    the tests are known: those that can't be read are doubtful. What nothing judges is left out.
    """
    answers: list[Answer] = []
    found: list[Doubt] = []
    for problem in problems:
        if problem.kind == "code":
            found += _unreadable(problem)
        elif problem.kind != "open":
            text = f"\\boxed{{{problem.reference.strip()}}}"
            answers.append(Answer(problem=problem, text=text, trace_id=problem.id))
    for verdict in verify_many(answers):
        if verdict.outcome != "correct":
            found.append(
                Doubt(problem_id=verdict.trace_id, outcome=verdict.outcome, detail=verdict.detail)
            )
    return found


def _unreadable(problem: Problem) -> Iterator[Doubt]:
    try:
        read_tests(problem.reference, problem.prompt)
    except ValueError as error:
        yield Doubt(problem_id=problem.id, outcome="unverifiable", detail=str(error))
