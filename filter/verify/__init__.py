"""Verify answers by rules: one grader for each kind of problem."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

from filter.verify.choice import choice
from filter.verify.code import code
from filter.verify.grading import Grade, Grader, Pair, failed
from filter.verify.gym import reasoning_gym, reasoning_gym_many
from filter.verify.ifeval import LIBRARY, check_ifeval, ifeval, ifeval_many
from filter.verify.maths import maths, maths_many
from tracestill.recipe.sandbox import BUBBLEWRAP, Sandbox
from tracestill.records import AnyTrace, Kind, Problem, Verdict
from tracestill.records.verifier import Verifier

__all__ = [
    "Answer",
    "Grade",
    "Grader",
    "check_ifeval",
    "grader",
    "rules",
    "verifier_name",
    "verifier_names",
    "verify",
    "verify_many",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer to verify: the text after the reasoning, None where there is none."""

    problem: Problem
    text: str | None
    trace_id: str


# For each kind its grader's factory and the distribution that decides, whose version counts.
_GRADERS: dict[Kind, tuple[Callable[[], Grader], str]] = {
    "math": (maths, "math-verify"),
    "choice": (choice, "tracestill"),
    "code": (code, "tracestill"),
    "reasoning_gym": (reasoning_gym, "reasoning-gym"),
    "ifeval": (ifeval, LIBRARY),
}
# Kinds whose verifier need not be installed: they are no part of `verifier_names`, so that what was
# made without them stays good when they come.
_EXTRA: tuple[Kind, ...] = ("ifeval",)

# Those that grade many at once, in batches on all cores.
_MANY: dict[Kind, Callable[[Iterable[Pair]], list[Grade]]] = {
    "math": maths_many,
    "reasoning_gym": reasoning_gym_many,
    "ifeval": ifeval_many,
}


def rules(sandbox: Sandbox = BUBBLEWRAP) -> Verifier:
    """The verifier that goes by rules alone: exact comparison, tests, scorers, by a problem's kind.
    It judges a trace's answer, never its reasoning. Programs run in `sandbox`.
    """

    def judge(pairs: Sequence[tuple[Problem, AnyTrace]]) -> list[Verdict]:
        answers = [Answer(problem=p, text=trace.answer, trace_id=trace.id) for p, trace in pairs]
        return verify_many(answers, sandbox)

    return Verifier(names=verifier_names(sandbox), verify=judge)


@cache
def grader(kind: Kind, sandbox: Sandbox = BUBBLEWRAP) -> Grader:
    """The grader of a kind of problem; where there is none, one whose outcome is `unverifiable`.
    Programs run in `sandbox`.
    """
    if kind == "code":
        return code(sandbox=sandbox)
    if kind in _GRADERS:
        return _GRADERS[kind][0]()
    none = f"there is no verifier for problems of kind {kind!r}"
    return lambda problem, answer: Grade(outcome="unverifiable", detail=none)


@cache
def verifier_name(kind: Kind, sandbox: Sandbox = BUBBLEWRAP) -> str:
    """What verdicts on a kind of problem bear: the kind and the versions of what decides, such as
    `math/tracestill-0.1.0+math-verify-0.9.0`, or `code/tracestill-0.1.0+piston` where programs run
    elsewhere than in bubblewrap; `none` if nothing verifies it.

    Raises:
        ValueError: the kind needs an extra that is not installed.

    """
    if kind == "ifeval":
        ifeval()
    if kind not in _GRADERS:
        return "none"
    distributions = dict.fromkeys(["tracestill", _GRADERS[kind][1]])
    versions = [f"{name}-{importlib.metadata.version(name)}" for name in distributions]
    if kind == "code" and sandbox != BUBBLEWRAP:
        versions.append(sandbox.service)
    return f"{kind}/{'+'.join(versions)}"


def verifier_names(sandbox: Sandbox = BUBBLEWRAP) -> list[str]:
    """The names of all kinds but those that an extra brings (`ifeval`): a verdict that bears none
    of them was made by other rules.
    """
    return [verifier_name(kind, sandbox) for kind in _GRADERS if kind not in _EXTRA]


def verify(
    problem: Problem, answer: str | None, trace_id: str, sandbox: Sandbox = BUBBLEWRAP
) -> Verdict:
    """Judge one answer to a problem: the text after the reasoning (`Trace.answer`), since what is
    only reasoned is no answer. Programs run in `sandbox`. Any thread may call this.

    Raises:
        RuntimeError: a worker's process can't be started.

    """
    return verify_many([Answer(problem=problem, text=answer, trace_id=trace_id)], sandbox)[0]


def verify_many(answers: Sequence[Answer], sandbox: Sandbox = BUBBLEWRAP) -> list[Verdict]:
    """Judge many answers as `verify` does, in order, on all cores where a kind needs processes.
    A verdict's `seconds` are those that its own answer took.

    Raises:
        RuntimeError: a worker's process can't be started.
        ValueError: a kind needs an extra that is not installed.

    """
    verdicts: dict[int, Verdict] = {}
    for kind in dict.fromkeys(answer.problem.kind for answer in answers):
        rows = {n: answer for n, answer in enumerate(answers) if answer.problem.kind == kind}
        grades = _grade_kind(kind, [(a.problem, a.text) for a in rows.values()], sandbox)
        for (number, answer), grade in zip(rows.items(), grades, strict=True):
            verdicts[number] = Verdict(
                trace_id=answer.trace_id,
                verifier=verifier_name(kind, sandbox),
                outcome=grade.outcome,
                extracted=grade.extracted,
                detail=grade.detail,
                seconds=grade.seconds,
            )
    return [verdicts[number] for number in range(len(answers))]


def _grade_kind(kind: Kind, pairs: Sequence[Pair], sandbox: Sandbox) -> list[Grade]:
    if kind in _MANY:
        return _MANY[kind](pairs)
    grade = partial(_grade, grader(kind, sandbox))
    if kind == "code" and len(pairs) > 1:
        # A server's threads wait for it, not for this machine.
        with ThreadPoolExecutor(8 if sandbox.url else os.cpu_count() or 1) as threads:
            return list(threads.map(grade, pairs))
    return [grade(pair) for pair in pairs]


def _grade(by: Grader, pair: Pair) -> Grade:
    """A grade, whatever the grader does: its failure on one answer is that answer's `error`."""
    begin = time.perf_counter()
    try:
        found = by(*pair)
    except Exception as error:
        found = failed(error)
    return dataclasses.replace(found, seconds=time.perf_counter() - begin)
