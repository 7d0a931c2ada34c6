"""Judge answers: one verifier for each kind of problem."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

from filter.sandbox import BUBBLEWRAP, Sandbox
from filter.verify.choice import choice
from filter.verify.code import code
from filter.verify.judgement import Judgement, Verifier, failed
from filter.verify.maths import maths, maths_many
from filter.verify.reasoning_gym import reasoning_gym, reasoning_gym_many
from tracestill.records import Kind, Problem, Verdict

__all__ = [
    "Answer",
    "Judgement",
    "Verifier",
    "verifier_for",
    "verifier_name",
    "verifier_names",
    "verify",
    "verify_many",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer to judge: the text after the reasoning, None where there is none."""

    problem: Problem
    text: str | None
    trace_id: str


# For each kind the verifier's factory and the distribution that decides, whose version counts.
_VERIFIERS: dict[Kind, tuple[Callable[[], Verifier], str]] = {
    "math": (maths, "math-verify"),
    "choice": (choice, "tracestill"),
    "code": (code, "tracestill"),
    "reasoning_gym": (reasoning_gym, "reasoning-gym"),
}

# Those that judge many at once, in batches on all cores; no row's failure is another's.
_VERIFIERS_OF_MANY: dict[
    Kind, Callable[[Sequence[tuple[Problem, str | None]]], list[Judgement]]
] = {"math": maths_many, "reasoning_gym": reasoning_gym_many}


@cache
def verifier_for(kind: Kind, sandbox: Sandbox = BUBBLEWRAP) -> Verifier:
    """The verifier of a kind of problem; one that says `unverifiable` where there is none.
    Programs run in `sandbox`.
    """
    if kind == "code":
        return code(sandbox=sandbox)
    if kind in _VERIFIERS:
        return _VERIFIERS[kind][0]()

    def judge(problem: Problem, answer: str | None) -> Judgement:
        return Judgement(
            outcome="unverifiable", detail=f"there is no verifier for problems of kind {kind!r}"
        )

    return judge


@cache
def verifier_name(kind: Kind, sandbox: Sandbox = BUBBLEWRAP) -> str:
    """The verifier's name and the versions of what decides, such as
    `math/tracestill-0.1.0+math-verify-0.9.0`, or `code/tracestill-0.1.0+piston` where programs run
    elsewhere than in bubblewrap; `none` if there is none.
    """
    if kind not in _VERIFIERS:
        return "none"
    distributions = dict.fromkeys(["tracestill", _VERIFIERS[kind][1]])
    versions = [f"{name}-{importlib.metadata.version(name)}" for name in distributions]
    if kind == "code" and sandbox != BUBBLEWRAP:
        versions.append(sandbox.service)
    return f"{kind}/{'+'.join(versions)}"


def verifier_names(sandbox: Sandbox = BUBBLEWRAP) -> list[str]:
    """Every verifier with its versions: verdicts made with others are not today's."""
    return [verifier_name(kind, sandbox) for kind in _VERIFIERS]


def verify(
    problem: Problem, answer: str | None, trace_id: str, sandbox: Sandbox = BUBBLEWRAP
) -> Verdict:
    """Judge the answer to a problem. It is the text after the reasoning (`Trace.answer`): what
    the reasoning says is not an answer. Programs run in `sandbox`. Any thread may call this.

    Raises:
        RuntimeError: the verifier's process can't be started.

    """
    begin = time.perf_counter()
    judgement = _isolated(problem, answer, sandbox)
    return _verdict(problem, trace_id, judgement, time.perf_counter() - begin, sandbox)


def verify_many(answers: Sequence[Answer], sandbox: Sandbox = BUBBLEWRAP) -> list[Verdict]:
    """Judge many answers as `verify` does, in order, on all cores where a kind needs processes.
    A verdict's `seconds` is its share of the time that its kind took.

    Raises:
        RuntimeError: a verifier's process can't be started.

    """
    verdicts: dict[int, Verdict] = {}
    for kind in dict.fromkeys(answer.problem.kind for answer in answers):
        numbers = [n for n, answer in enumerate(answers) if answer.problem.kind == kind]
        begin = time.perf_counter()
        judgements = _judge_kind(kind, [answers[n] for n in numbers], sandbox)
        seconds = (time.perf_counter() - begin) / len(numbers)
        for number, judgement in zip(numbers, judgements, strict=True):
            answer = answers[number]
            verdicts[number] = _verdict(
                answer.problem, answer.trace_id, judgement, seconds, sandbox
            )
    return [verdicts[number] for number in range(len(answers))]


def _judge_kind(kind: Kind, answers: Sequence[Answer], sandbox: Sandbox) -> list[Judgement]:
    if kind in _VERIFIERS_OF_MANY:
        return _VERIFIERS_OF_MANY[kind]([(answer.problem, answer.text) for answer in answers])
    if kind == "code" and len(answers) > 1:
        # A server's threads wait for it, not for this machine.
        with ThreadPoolExecutor(8 if sandbox.url else os.cpu_count() or 1) as threads:
            return list(threads.map(lambda a: _isolated(a.problem, a.text, sandbox), answers))
    return [_isolated(answer.problem, answer.text, sandbox) for answer in answers]


def _isolated(problem: Problem, answer: str | None, sandbox: Sandbox) -> Judgement:
    """A judgement, whatever the verifier does: its failure on one row is told in that row."""
    try:
        return verifier_for(problem.kind, sandbox)(problem, answer)
    except Exception as error:
        if type(error) is RuntimeError:  # no verifier starts at all: not the row's fault
            raise
        return failed(error)


def _verdict(
    problem: Problem, trace_id: str, judgement: Judgement, seconds: float, sandbox: Sandbox
) -> Verdict:
    return Verdict(
        trace_id=trace_id,
        verifier=verifier_name(problem.kind, sandbox),
        outcome=judgement.outcome,
        extracted=judgement.extracted,
        detail=judgement.detail,
        seconds=seconds,
    )
