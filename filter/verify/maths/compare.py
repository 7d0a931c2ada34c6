"""Whether an answer's form equals the reference's: yes, no, or the forms can't tell."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from fractions import Fraction

from filter.verify.maths.algebra import (
    PI,
    TooDearError,
    approximate,
    divide,
    equal,
    multiply,
    number,
    proportional,
    rational,
    variable,
    variables,
)
from filter.verify.maths.forms import (
    Based,
    Clock,
    Equation,
    Form,
    Group,
    Huge,
    Matrix,
    Nothing,
    Scalar,
    Union,
    Words,
    assigns,
    difference,
)
from filter.verify.maths.units import Unit, same_dimension

# A decimal of so many digits stands for what it is the rounding of: 0.333333 for 1/3.
_ROUNDED_DIGITS = 6


def same(gold: Form, answer: Form) -> bool | None:
    """Whether the answer says what the reference says; None where that can't be told."""
    try:
        return _same(gold, answer)
    except TooDearError:
        return None


def _same(gold: Form, answer: Form) -> bool | None:
    if gold is None or answer is None:
        return None
    if isinstance(answer, Equation):
        return _same_equation(gold, answer)
    if isinstance(gold, Equation):
        # `x = 5` and `2 + 3 = 5` may be answered by `5`; `x^2 + y^2 = 1` not by `1`.
        ends = (gold.sides[0], gold.sides[-1])
        computes = all(isinstance(side, Scalar) and not variables(side.value) for side in ends)
        return _same(gold.sides[-1], answer) if gold.names or computes else False
    if isinstance(gold, Scalar) and isinstance(answer, Scalar):
        return _same_scalar(gold, answer)
    if isinstance(gold, Matrix | Group) and isinstance(answer, Matrix | Group):
        return _same_group(gold, answer)
    if isinstance(gold, Union) and isinstance(answer, Union):
        return _same_items(gold.parts, answer.parts, ordered=False)
    if isinstance(gold, Clock) and isinstance(answer, Clock):
        return _same_clock(gold, answer)
    if isinstance(gold, Clock) and isinstance(answer, Scalar) and not gold.half:
        return None if not gold.minutes else _same(_as_ratio(gold), answer)
    if isinstance(answer, Clock) and isinstance(gold, Scalar) and not answer.half:
        return None if not answer.minutes else _same(gold, _as_ratio(answer))
    if isinstance(gold, Words) and isinstance(answer, Words):
        return gold.text == answer.text
    if isinstance(gold, Words) or isinstance(answer, Words):
        return _same_words(gold, answer)
    if isinstance(gold, Based | Huge | Nothing) or isinstance(answer, Based | Huge | Nothing):
        return gold == answer
    if isinstance(gold, Scalar) and isinstance(answer, Group):
        # a set of one is written as its element
        return _same(gold, answer.items[0]) if len(answer.items) == 1 else False
    if isinstance(gold, Group) and isinstance(answer, Scalar):
        return _same(gold.items[0], answer) if len(gold.items) == 1 else False
    if isinstance(gold, Union) or isinstance(answer, Union):
        return None
    return False


def _as_ratio(clock: Clock) -> Scalar:
    return Scalar(number(Fraction(clock.hours, clock.minutes)))


def _same_words(gold: Form, answer: Form) -> bool | None:
    # A letter is a variable to the one and a choice or a name to the other.
    words, other = (gold, answer) if isinstance(gold, Words) else (answer, gold)
    assert isinstance(words, Words)
    if len(words.text) == 1 and isinstance(other, Scalar):
        return equal(other.value, variable(words.text))
    return False


def _same_clock(gold: Clock, answer: Clock) -> bool:
    if gold.half == answer.half or not gold.half:
        return (gold.hours, gold.minutes) == (answer.hours, answer.minutes)
    if answer.half or not (answer.hours > 12 or answer.hours == 0):
        return False
    hours = gold.hours % 12 + (12 if gold.half == "p" else 0)
    return (hours, gold.minutes) == (answer.hours, answer.minutes)


def _same_equation(gold: Form, answer: Equation) -> bool | None:
    if not isinstance(gold, Equation):
        # `x = 5` and `2 + 3 = 5` say 5; `7 = 5` and `x^2 - 4 = 5` do not.
        last = _same(gold, answer.sides[-1])
        if last is False:
            return False
        between = answer.sides[1:-1] if answer.names else answer.sides[:-1]
        for side in between:
            if isinstance(side, Scalar) and variables(side.value) and isinstance(gold, Scalar):
                if variables(gold.value) or answer.names:
                    continue  # an expression on the way to the value
                return False
            agrees = _same(gold, side)
            if agrees is not True:
                return agrees
        return last
    if gold.names and answer.names and gold.first == answer.first:
        return _same(gold.sides[-1], answer.sides[-1])
    sides = (gold.sides[0], gold.sides[-1], answer.sides[0], answer.sides[-1])
    if any(side is None for side in sides):
        return None
    if not all(isinstance(side, Scalar) for side in sides):
        return False if gold.names and answer.names else None
    a, b, c, d = (side.value for side in sides if isinstance(side, Scalar))
    if len(gold.sides) == len(answer.sides) == 2:
        return proportional(difference(a, b), difference(c, d))
    return None


def _same_group(gold: Group | Matrix, answer: Group | Matrix) -> bool | None:
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
            return False
        return _same_items(sum(gold.rows, ()), sum(answer.rows, ()), ordered=True)
    # A vector may be written in a row.
    row, other = _as_group(gold), _as_group(answer)
    return False if row is None or other is None else _same_row(row, other)


def _same_row(gold: Group, answer: Group) -> bool | None:
    brackets = (gold.opens + gold.closes, answer.opens + answer.closes)
    if gold.opens in ("", "{") and answer.opens in ("", "{"):
        return _same_items(gold.items, answer.items, ordered=False)
    if brackets[0] == brackets[1]:
        return _same_items(gold.items, answer.items, ordered=True)
    if len(gold.items) != 2 and set(brackets) == {"()", "[]"}:
        # Of more than two items neither is an interval: `[1,2,3]` is `(1,2,3)`.
        return _same_items(gold.items, answer.items, ordered=True)
    if set(brackets) == {"()", ""}:
        # `1, 3` may be the roots of what `(1, 3)` is the interval between; `x = 1, y = 3` is not.
        bare = answer if answer.opens == "" else gold
        if len(gold.items) > 2 or assigns(bare):
            return _same_items(gold.items, answer.items, ordered=True)
    return False


def _as_group(form: Group | Matrix) -> Group | None:
    if isinstance(form, Group):
        return form
    if len(form.rows) == 1:
        return Group("(", ")", form.rows[0])
    if all(len(row) == 1 for row in form.rows):
        return Group("(", ")", tuple(row[0] for row in form.rows))
    return None


def _same_items(gold: Sequence[Form], answer: Sequence[Form], *, ordered: bool) -> bool | None:
    if not ordered:
        return _same_multiset(gold, answer)
    if len(gold) != len(answer):
        return False
    unsure = False
    for a, b in zip(gold, answer, strict=True):
        found = _same(a, b)
        if found is False:
            return False
        unsure |= found is None
    return None if unsure else True


def _same_multiset(gold: Sequence[Form], answer: Sequence[Form]) -> bool | None:
    if len(gold) < len(answer) <= 100 and None not in gold and None not in answer:
        answer = _distinct(answer)  # a solution may be named twice
    if len(gold) != len(answer):
        return None if None in gold or None in answer else False
    left = list(answer)
    unsure = False
    for item in gold:
        for place, other in enumerate(left):
            found = _same(item, other)
            unsure |= found is None
            if found:
                del left[place]
                break
        else:
            return None if unsure else False
    return True


def _distinct(items: Sequence[Form]) -> list[Form]:
    kept: list[Form] = []
    for item in items:
        if not any(_same(other, item) for other in kept):
            kept.append(item)
    return kept


def _same_scalar(gold: Scalar, answer: Scalar) -> bool:
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
    if equal(gold.value, answer.value):
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
    if full is not None and _terminates(full.denominator):
        return False
    value = approximate(exact.value)
    if value is None or rounded.decimals > 50:
        return False
    step = Decimal(1).scaleb(-rounded.decimals)
    try:
        roundings = {value.quantize(step, mode) for mode in (ROUND_HALF_UP, ROUND_DOWN)}
    except ArithmeticError:  # more digits than a decimal's context holds
        return False
    return any(Fraction(rounding) == shown for rounding in roundings)


def _terminates(denominator: int) -> bool:
    for factor in (2, 5):
        while denominator % factor == 0:
            denominator //= factor
    return denominator == 1
