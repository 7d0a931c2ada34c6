"""Judge mathematical answers: as normalised text first, then by math-verify."""

from __future__ import annotations

import re
from collections.abc import Callable

from filter.extract import last_boxed, last_stated
from filter.verify.judgement import Judgement, Verifier
from filter.verify.worker import Worker, WorkerError
from tracestill.records import Outcome, Problem

_NOISE = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;:]|\\displaystyle|[\s$]")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?!\d|,)")


def maths(seconds: float = 5.0) -> Verifier:
    r"""A verifier of mathematical answers against `Problem.reference`.

    Takes the answer's last `\boxed{…}`, else the last answer stated in words; the reference's
    likewise, else all of it. Equal text is correct without more ado; what else is equal is for
    math-verify (https://github.com/huggingface/Math-Verify) to say, in a process of its own and
    within `seconds`: `error` where it takes longer or raises.
    """
    worker = Worker("filter.verify.maths:open_comparer", seconds=seconds)

    def judge(problem: Problem, answer: str | None) -> Judgement:
        text = answer or ""
        extracted = last_boxed(text)
        if extracted is None:
            extracted = last_stated(text)
        if not extracted:
            return Judgement(outcome="incorrect", extracted=extracted, detail="no answer found")
        reference = _reference(problem.reference)
        if _normalise(extracted) == _normalise(reference):
            return Judgement(outcome="correct", extracted=extracted, detail="same text")
        try:
            outcome, detail = worker.call(reference, extracted)
        except WorkerError as error:
            return Judgement(outcome="error", extracted=extracted, detail=str(error))
        return Judgement(outcome=outcome, extracted=extracted, detail=detail)

    return judge


def _reference(text: str) -> str:
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    return text.rpartition("####")[2].strip()


def _normalise(text: str) -> str:
    text = _TEXT.sub(r"\1", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    return _NOISE.sub("", text).rstrip(".").casefold()


def open_comparer() -> Callable[[str, str], tuple[Outcome, str]]:
    """The comparison of a reference and an answer, each without its box."""
    from math_verify import parse, verify

    def compare(reference: str, answer: str) -> tuple[Outcome, str]:
        # No time limits of math-verify's own: they rest on SIGALRM, which some loops never see.
        gold = parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
        if not gold:
            return "unverifiable", "math-verify can't read the reference"
        found = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
        if not found:
            return "incorrect", "math-verify can't read the answer"
        same = verify(gold, found, timeout_seconds=None, raise_on_error=True)
        return ("correct", "equal") if same else ("incorrect", "not equal")

    return compare
