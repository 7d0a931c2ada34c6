"""What exact arithmetic can't tell is asked of math-verify, and its answer is checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from tracestill.records import Outcome

_DECIMAL = re.compile(r"(?<![\d.])(\d*\.\d+)(?![\d.])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s?\^\s?\{?\s?\\circ(?![a-zA-Z])\s?\}?")
_CONSTANT_DIGITS = 60
_AGREEING = 40


def open_comparer() -> Callable[[str, str], tuple[Outcome, str]]:
    """The comparison of a reference and an answer, both cleaned (`normalise.clean`), without
    units and boxes. It has no time limit: it is meant to run in a worker.
    """
    from math_verify import parse, verify
    from math_verify.parser import LatexExtractionConfig, NormalizationConfig

    # Text that is no formula is not searched for numbers, and no unit is dropped: `5 m` is not 5.
    plain = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="last",
        equations=False,
    )  # fmt: skip
    config = [LatexExtractionConfig(boxed_match_priority=0, normalization_config=plain)]

    def read(text: str) -> Any:
        text = _DEGREES.sub(r"(\\frac{\1 \\pi}{180})", text)
        # No time limits of math-verify's own: they rest on SIGALRM, which some loops never see.
        found = parse(
            f"\\boxed{{{_DECIMAL.sub(_as_fraction, text)}}}",
            config, fallback_mode="no_fallback", parsing_timeout=None,
        )  # fmt: skip
        return found[0] if found and not isinstance(found[0], str) else None

    def compare(reference: str, answer: str) -> tuple[Outcome, str]:
        gold = read(reference)
        if gold is None:
            return "unverifiable", "math-verify can't read the reference"
        found = read(answer)
        if found is None:
            return "incorrect", "math-verify can't read the answer"
        if not _alike(gold, found):
            return "incorrect", "another kind of expression"
        if not verify(gold, found, timeout_seconds=None, raise_on_error=True):
            return "incorrect", "not equal"
        return ("correct", "equal") if _confirmed(gold, found) else ("incorrect", "nearly equal")

    # sympy loads much of itself when it is first used: before the first row's time begins, and
    # before the process forks.
    for question in (("\\sin^2 x", "1-\\cos^2 x"), ("\\ln 8", "3\\ln 2"), ("x>\\pi^x", "[1,2]")):
        compare(*question)
    return compare


def _as_fraction(match: re.Match[str]) -> str:
    # As a binary float `0.1` would be compared with a tolerance.
    value = Fraction(match[1])
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _alike(gold: Any, answer: Any) -> bool:
    """Whether math-verify may compare them: it takes an equation's right side for its value, and
    letters in any order and case for a word.
    """
    from sympy import And, Symbol
    from sympy.core.relational import Relational

    relations = [isinstance(value, Relational | And) for value in (gold, answer)]
    if relations[0] != relations[1]:
        # an interval is what an inequality says
        return not (_is_expression(gold) or _is_expression(answer))
    if isinstance(gold, Symbol) or isinstance(answer, Symbol):
        return bool(gold == answer)
    return True


def _is_expression(value: Any) -> bool:
    from sympy import Expr

    return isinstance(value, Expr)


def _confirmed(gold: Any, answer: Any) -> bool:
    """Whether constants that are equal to math-verify agree in 40 digits: it compares to 6."""
    from sympy import Expr

    if not (isinstance(gold, Expr) and isinstance(answer, Expr)):
        return True
    if gold.free_symbols or answer.free_symbols or gold == answer:
        return True
    a, b = gold.evalf(_CONSTANT_DIGITS), answer.evalf(_CONSTANT_DIGITS)
    if not (a.is_number and b.is_number):
        return False
    size = abs(a) + abs(b)
    return bool(size == 0 or abs(a - b) <= size * 10**-_AGREEING)
