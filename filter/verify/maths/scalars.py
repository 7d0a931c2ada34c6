"""Whether two values with units are equal, or one is the other rounded."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from fractions import Fraction

from filter.verify.maths.algebra import (
    PI,
    approximate,
    divide,
    equal,
    multiply,
    number,
    rational,
    variable,
)
from filter.verify.maths.factorials import written_alike
from filter.verify.maths.forms import Scalar
from filter.verify.maths.units import Unit, same_dimension

# A decimal of so many digits stands for what it is the rounding of, 0.33333 for 1/3, wherever it
# stands: alone, in a tuple, an interval or a matrix.
_ROUNDED_DIGITS = 5


def same_scalar(gold: Scalar, answer: Scalar) -> bool:
    """Whether two values are equal, each with its unit if it has one. A unit that only one of them
    has says nothing; an angle in degrees may be given in radians.

    Raises:
        TooDearError: that can't be told.

    """
    if gold.unit is None or answer.unit is None:
        return _same_value(gold, answer) or _same_angle(gold, answer)
    if not same_dimension(gold.unit, answer.unit):
        return _same_angle(gold, answer)
    if gold.unit.dimension != answer.unit.dimension:
        return _same_value(gold, answer)
    factor = answer.unit.size / gold.unit.size
    if factor == 1:
        return _same_value(gold, answer)
    return equal(gold.value, multiply(answer.value, number(factor)))


def _same_angle(gold: Scalar, answer: Scalar) -> bool:
    """Whether one is an angle in degrees and the other the same in radians."""
    for one, other in ((gold, answer), (answer, gold)):
        if _is(one.unit, "angle") and (other.unit is None or _is(other.unit, "radian")):
            turn = divide(multiply(one.value, variable(PI)), number(180))
            if equal(turn, other.value) and one.value.top:
                return True
    return False


def _is(unit: Unit | None, dimension: str) -> bool:
    return unit is not None and unit.dimension == dimension


def _same_value(gold: Scalar, answer: Scalar) -> bool:
    if equal(*written_alike(gold.value, answer.value)):
        return True
    if (gold.decimals is None) == (answer.decimals is None):
        return False
    rounded, exact = (gold, answer) if gold.decimals is not None else (answer, gold)
    shown = rational(rounded.value)
    assert shown is not None
    assert rounded.decimals is not None
    if len(str(abs(shown.numerator * 10**rounded.decimals // shown.denominator))) < _ROUNDED_DIGITS:
        return False
    full = rational(exact.value)
    if full is not None and not pow(10, full.denominator.bit_length(), full.denominator):
        return False  # a decimal itself
    value = approximate(exact.value)
    if value is None or rounded.decimals > 50:
        return False
    step = Decimal(1).scaleb(-rounded.decimals)
    try:
        roundings = {value.quantize(step, mode) for mode in (ROUND_HALF_UP, ROUND_DOWN)}
    except ArithmeticError:  # more digits than a decimal's context holds
        return False
    return any(Fraction(rounding) == shown for rounding in roundings)
