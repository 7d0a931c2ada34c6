"""Judge answers: one verifier for each kind of problem."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from functools import cache

from filter.verify.choice import choice
from filter.verify.code import code
from filter.verify.judgement import Judgement, Verifier
from filter.verify.maths import maths
from filter.verify.reasoning_gym import reasoning_gym
from tracestill.records import Kind, Problem, Verdict

__all__ = ["Judgement", "Verifier", "verifier_for", "verifier_name", "verify"]

# For each kind the verifier's factory and the distribution that decides, whose version counts.
_VERIFIERS: dict[Kind, tuple[Callable[[], Verifier], str]] = {
    "math": (maths, "math-verify"),
    "choice": (choice, "tracestill"),
    "code": (code, "tracestill"),
    "reasoning_gym": (reasoning_gym, "reasoning-gym"),
}


@cache
def verifier_for(kind: Kind) -> Verifier:
    """The verifier of a kind of problem; one that says `unverifiable` where there is none."""
    if kind in _VERIFIERS:
        return _VERIFIERS[kind][0]()

    def judge(problem: Problem, answer: str | None) -> Judgement:
        return Judgement(
            outcome="unverifiable", detail=f"there is no verifier for problems of kind {kind!r}"
        )

    return judge


@cache
def verifier_name(kind: Kind) -> str:
    """The verifier's name and version, such as `reasoning_gym/0.1.25`; `none` if there is none."""
    if kind not in _VERIFIERS:
        return "none"
    distribution = _VERIFIERS[kind][1]
    name = kind if distribution == "tracestill" else distribution.replace("-", "_")
    return f"{name}/{importlib.metadata.version(distribution)}"


def verify(problem: Problem, answer: str | None, trace_id: str) -> Verdict:
    """Judge the answer to a problem. It is the text after the reasoning (`Trace.answer`): what
    the reasoning says is not an answer.

    Raises:
        RuntimeError: the verifier's process can't be started.

    """
    begin = time.perf_counter()
    judgement = verifier_for(problem.kind)(problem, answer)
    return Verdict(
        trace_id=trace_id,
        verifier=verifier_name(problem.kind),
        outcome=judgement.outcome,
        extracted=judgement.extracted,
        detail=judgement.detail,
        seconds=time.perf_counter() - begin,
    )
