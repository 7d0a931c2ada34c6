"""What grades one answer: a `Grader`, and how those that need a worker grade many at once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from filter.verify.worker import Result
from tracestill.records import Outcome, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """An outcome, the answer that was found in the text (None: none), why, and how many `seconds`
    of wall time that took.
    """

    outcome: Outcome
    extracted: str | None = None
    detail: str = ""
    seconds: float = 0.0


Grader = Callable[[Problem, str | None], Grade]
"""Grades an answer (the text after the reasoning; None where there is none) to a problem."""

Pair = tuple[Problem, str | None]
"""A problem and the answer to grade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is left to ask a worker about an answer: `arguments` of its function, which returns an
    outcome and the reason. `extracted` is the answer that was found.
    """

    extracted: str
    arguments: tuple[str, ...]


def failed(error: Exception) -> Grade:
    """The grade of an answer on which the grader itself failed."""
    return Grade(outcome="error", detail=f"{type(error).__name__}: {error}"[:500])


def grade_with_workers(
    pairs: Iterable[Pair],
    decide: Callable[[Problem, str | None], Grade | Question],
    ask: Callable[[Sequence[tuple[str, ...]]], Sequence[Result]],
) -> list[Grade]:
    """Grade answers in order: `decide` in this process, and by workers (`ask`) those of which it
    leaves a question. A row on which either fails has the outcome `error` and costs no other row.

    Raises:
        RuntimeError: no worker can be started.

    """
    decided = [_decided(decide, pair) for pair in pairs]
    questions = [found.arguments for found, _ in decided if isinstance(found, Question)]
    results = iter(ask(questions) if questions else ())
    return [
        _answered(found, next(results), seconds)
        if isinstance(found, Question)
        else dataclasses.replace(found, seconds=seconds)
        for found, seconds in decided
    ]


def _decided(
    decide: Callable[[Problem, str | None], Grade | Question], pair: Pair
) -> tuple[Grade | Question, float]:
    begin = time.perf_counter()
    found: Grade | Question
    try:
        found = decide(*pair)
    except Exception as error:  # of this row: graded with others, it must cost them nothing
        found = failed(error)
    return found, time.perf_counter() - begin


def _answered(question: Question, result: Result, seconds: float) -> Grade:
    seconds += result.seconds
    if result.error is not None:
        return Grade(
            outcome="error", extracted=question.extracted, detail=result.error, seconds=seconds
        )
    outcome, detail = result.value
    return Grade(outcome=outcome, extracted=question.extracted, detail=detail, seconds=seconds)
