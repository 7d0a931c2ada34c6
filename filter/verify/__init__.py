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
from filter.verify.own import check_own, own_many
from tracestill.recipe.rules import RULES, Rules
from tracestill.recipe.sandbox import BUBBLEWRAP
from tracestill.records import AnyTrace, Problem, Verdict
from tracestill.records.verifier import Verifier

__all__ = [
    "Answer",
    "Grade",
    "Grader",
    "by_rules",
    "check_ifeval",
    "grader",
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
_GRADERS: dict[str, tuple[Callable[[], Grader], str]] = {
    "math": (maths, "math-verify"),
    "choice": (choice, "tracestill"),
    "code": (code, "tracestill"),
    "reasoning_gym": (reasoning_gym, "reasoning-gym"),
    "ifeval": (ifeval, LIBRARY),
}
# Kinds whose verifier need not be installed: they are no part of `verifier_names`, so that what was
# made without them stays good when they come.
_EXTRA: tuple[str, ...] = ("ifeval",)

# Those that grade many at once, in batches on all cores.
_MANY: dict[str, Callable[[Iterable[Pair]], list[Grade]]] = {
    "math": maths_many,
    "reasoning_gym": reasoning_gym_many,
    "ifeval": ifeval_many,
}


def by_rules(rules: Rules = RULES) -> Verifier:
    """The verifier that goes by rules alone: exact comparison, tests, scorers, by a problem's kind.
    It judges a trace's answer, never its reasoning.

    Raises:
        ValueError: a function of the user's can't be loaded.
        RuntimeError: a process can't be started.

    """
    for _, function in rules.own:
        check_own(function)

    def judge(pairs: Sequence[tuple[Problem, AnyTrace]]) -> list[Verdict]:
        answers = [Answer(problem=p, text=trace.answer, trace_id=trace.id) for p, trace in pairs]
        return verify_many(answers, rules)

    return Verifier(names=verifier_names(rules), verify=judge)


@cache
def grader(kind: str, rules: Rules = RULES) -> Grader:
    """The grader of a kind of problem; where there is none, one whose outcome is `unverifiable`."""
    if (function := rules.function(kind)) is not None:
        return lambda problem, answer: own_many(function, [(problem, answer)])[0]
    if kind == "code":
        return code(sandbox=rules.sandbox)
    if kind in _GRADERS:
        return _GRADERS[kind][0]()
    none = f"there is no verifier for problems of kind {kind!r}"
    return lambda problem, answer: Grade(outcome="unverifiable", detail=none)


@cache
def verifier_name(kind: str, rules: Rules = RULES) -> str:
    """What verdicts on a kind of problem bear: the kind and the versions of what decides, such as
    `math/tracestill-0.1.0+math-verify-0.9.0`, or `code/tracestill-0.1.0+piston` where programs run
    elsewhere than in bubblewrap; `KIND/FILE.FUNCTION-CONTENT` of a function of the user's; `none`
    if nothing verifies it.

    Raises:
        ValueError: the kind needs an extra that is not installed.

    """
    if (function := rules.function(kind)) is not None:
        return f"{kind}/{function.label}"
    if kind == "ifeval":
        ifeval()
    if kind not in _GRADERS:
        return "none"
    distributions = dict.fromkeys(["tracestill", _GRADERS[kind][1]])
    versions = [f"{name}-{importlib.metadata.version(name)}" for name in distributions]
    if kind == "code" and rules.sandbox != BUBBLEWRAP:
        versions.append(rules.sandbox.service)
    return f"{kind}/{'+'.join(versions)}"


def verifier_names(rules: Rules = RULES) -> list[str]:
    """The names of all kinds but those that an extra brings (`ifeval`): a verdict that bears none
    of them was made by other rules.
    """
    kinds = [kind for kind in _GRADERS if kind not in _EXTRA]
    return [verifier_name(kind, rules) for kind in [*kinds, *dict(rules.own)]]


def verify(problem: Problem, answer: str | None, trace_id: str, rules: Rules = RULES) -> Verdict:
    """Judge one answer to a problem: the text after the reasoning (`Trace.answer`), since what is
    only reasoned is no answer. Any thread may call this.

    Raises:
        RuntimeError: a worker's process can't be started.

    """
    return verify_many([Answer(problem=problem, text=answer, trace_id=trace_id)], rules)[0]


def verify_many(answers: Sequence[Answer], rules: Rules = RULES) -> list[Verdict]:
    """Judge many answers as `verify` does, in order, on all cores where a kind needs processes.
    A verdict's `seconds` are those that its own answer took.

    Raises:
        RuntimeError: a worker's process can't be started.
        ValueError: a kind needs an extra that is not installed.

    """
    verdicts: dict[int, Verdict] = {}
    for kind in dict.fromkeys(answer.problem.kind for answer in answers):
        rows = {n: answer for n, answer in enumerate(answers) if answer.problem.kind == kind}
        grades = _grade_kind(kind, [(a.problem, a.text) for a in rows.values()], rules)
        for (number, answer), grade in zip(rows.items(), grades, strict=True):
            verdicts[number] = Verdict(
                trace_id=answer.trace_id,
                verifier=verifier_name(kind, rules),
                outcome=grade.outcome,
                extracted=grade.extracted,
                detail=grade.detail,
                seconds=grade.seconds,
            )
    return [verdicts[number] for number in range(len(answers))]


def _grade_kind(kind: str, pairs: Sequence[Pair], rules: Rules) -> list[Grade]:
    if (function := rules.function(kind)) is not None:
        return own_many(function, pairs)
    if kind in _MANY:
        return _MANY[kind](pairs)
    grade = partial(_grade, grader(kind, rules))
    if kind == "code" and len(pairs) > 1:
        # A server's threads wait for it, not for this machine.
        with ThreadPoolExecutor(8 if rules.sandbox.url else os.cpu_count() or 1) as threads:
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
