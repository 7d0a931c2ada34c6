"""Whether an answer's form equals the reference's: yes, no, or the forms can't tell."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from filter.verify.maths.algebra import (
    TooDearError,
    equal,
    multiply,
    number,
    proportional,
    variable,
    variables,
)
from filter.verify.maths.assignments import are_roots, assigned, in_order
from filter.verify.maths.forms import (
    Based,
    Clock,
    Equation,
    Form,
    Group,
    Huge,
    Matrix,
    Nothing,
    Proportion,
    Scalar,
    Union,
    Words,
    difference,
)
from filter.verify.maths.scalars import same_scalar


def same(gold: Form, answer: Form) -> bool | None:
    """Whether the answer says what the reference says; None where that can't be told."""
    try:
        return _same(gold, answer)
    except TooDearError:
        return None


def _same(gold: Form, answer: Form) -> bool | None:
    if gold is None or answer is None:
        return None
    if isinstance(gold, Scalar) and isinstance(answer, Scalar):
        return same_scalar(gold, answer)
    named, other = assigned(gold), assigned(answer)
    if named and other:
        if named.keys() == other.keys():
            return _same_items(list(named.values()), [other[n] for n in named], ordered=True)
        if isinstance(gold, Equation) or isinstance(answer, Equation):
            return False
    for names, form in ((named, answer), (other, gold)):
        if names and not assigned(form) and (values := _values(form, len(names))) is not None:
            if are_roots(names) and isinstance(form, Group) and form.opens != "(":
                continue
            stated = gold if names is named else answer
            given = tuple(names.values()) if isinstance(stated, Equation) else in_order(names)
            pair = (given, values)
            return _same_items(*(pair if names is named else pair[::-1]), ordered=True)
    if isinstance(answer, Equation):
        return _same_equation(gold, answer)
    if isinstance(gold, Equation):
        # `x = 5` and `2 + 3 = 5` may be answered by `5`; `x^2 + y^2 = 1` not by `1`.
        ends = (gold.sides[0], gold.sides[-1])
        computes = all(isinstance(side, Scalar) and not variables(side.value) for side in ends)
        return _same(gold.sides[-1], answer) if gold.names or computes else False
    if isinstance(gold, Matrix | Group) and isinstance(answer, Matrix | Group):
        return _same_group(gold, answer)
    if isinstance(gold, Union) and isinstance(answer, Union):
        return _same_items(gold.parts, answer.parts, ordered=False)
    if isinstance(gold, Proportion) and isinstance(answer, Proportion):
        return _same_proportion(gold.terms, answer.terms)
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


def _values(form: Form, count: int) -> Sequence[Form] | None:
    """The items of a tuple, a column or a bare list of so many; None where it is none."""
    row = _as_group(form) if isinstance(form, Group | Matrix) else None
    if row is None or row.opens == "{" or len(row.items) != count:
        return None
    return row.items


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
    if [len(gold.sides), len(answer.sides)] == [2, 2]:
        for ends in (answer.sides, answer.sides[::-1]):
            if _same_items(gold.sides, ends, ordered=True):
                return True
    sides = (gold.sides[0], gold.sides[-1], answer.sides[0], answer.sides[-1])
    if gold.names and answer.names and (sides[0] is None or sides[2] is None):
        return False  # two names that differ, such as P(X = 1) and P(X = 2)
    if any(side is None for side in sides):
        return None
    if not all(isinstance(side, Scalar) for side in sides):
        return False if gold.names and answer.names else None
    a, b, c, d = (side.value for side in sides if isinstance(side, Scalar))
    if len(gold.sides) == len(answer.sides) == 2:
        return proportional(difference(a, b), difference(c, d))
    return None


def _same_proportion(gold: Sequence[Form], answer: Sequence[Form]) -> bool | None:
    """Whether the terms are the same up to a common factor."""
    a = [term.value for term in gold if isinstance(term, Scalar)]
    b = [term.value for term in answer if isinstance(term, Scalar)]
    if len(gold) != len(answer):
        return False
    if len(a) != len(gold) or len(b) != len(gold):
        return None
    return all(equal(multiply(a[0], y), multiply(x, b[0])) for x, y in zip(a, b, strict=True))


def _same_group(gold: Group | Matrix, answer: Group | Matrix) -> bool | None:
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
            return False
        return _same_items(sum(gold.rows, ()), sum(answer.rows, ()), ordered=True)
    for one, other in ((gold, answer), (answer, gold)):
        if isinstance(one, Matrix) and isinstance(other, Group) and _is_rows(other):
            rows = [item for item in other.items if isinstance(item, Group)]
            return _same(one, Matrix(tuple(row.items for row in rows)))
    # A vector may be written in a row.
    row, column = _as_group(gold), _as_group(answer)
    return False if row is None or column is None else _same_row(row, column)


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
        if len(bare.items) > 2:
            return _same_items(gold.items, answer.items, ordered=True)
    return False


def _is_rows(form: Group) -> bool:
    """Whether a matrix is written as a list of its rows."""
    return form.opens in ("[", "(") and all(
        isinstance(item, Group) and item.opens == form.opens for item in form.items
    )


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
