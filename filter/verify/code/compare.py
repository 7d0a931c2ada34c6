"""Compare what a program gave with what was expected, as the benchmarks do."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

# With a zero before other digits it is no number but text: a bit string, an id, a time.
_DECIMAL = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_PADDED = re.compile(r"[+-]?0[0-9]+(?:\.[0-9]*)?")

_cut = reprlib.Repr()  # values may be huge, and nested without end
_cut.maxlevel = _cut.maxlist = _cut.maxdict = 20
_cut.maxstring = _cut.maxlong = _cut.maxother = 200


def text_columns(outputs: Iterable[str]) -> frozenset[int]:
    """Which words of a line (0: the first) are text though they may look like numbers: those that
    have a zero before other digits in any of a problem's outputs, as one of several bit strings.
    """
    words = (
        pair for text in outputs for line in text.split("\n") for pair in enumerate(line.split())
    )
    return frozenset(column for column, word in words if _PADDED.fullmatch(word))


def difference(
    found: str, expected: str, tolerance: float = 0.0, texts: frozenset[int] = frozenset()
) -> str | None:
    """Where an output first differs from the expected one; None if it does not.

    As in LiveCodeBench: whitespace around the text and around each line does not count, and there
    are as many lines; two lines are the same as text, or where both hold only numbers, and those
    are equal as decimals, exactly, but for the words in the columns `texts` (see `text_columns`).
    With a `tolerance` lines are the same where each of their words is, and numbers where they
    differ by no more than that, absolutely or relatively.
    """
    ours, theirs = found.strip().split("\n"), expected.strip().split("\n")
    for number, (our, their) in enumerate(zip(ours, theirs, strict=False), 1):
        if our.strip() != their.strip() and not _same_words(our, their, tolerance, texts):
            return f"line {number} is {short(our.strip())}, expected {short(their.strip())}"
    if len(ours) != len(theirs):
        return f"{len(ours)} lines, expected {len(theirs)}"
    return None


def _same_words(found: str, expected: str, tolerance: float, texts: frozenset[int]) -> bool:
    ours, theirs = found.split(), expected.split()
    if len(ours) != len(theirs) or not ours:
        return False
    return all(
        (column not in texts and _same_numbers(our, their, tolerance))
        or (our == their and (tolerance > 0 or column in texts or our.isdecimal()))
        for column, (our, their) in enumerate(zip(ours, theirs, strict=True))
    )


def _same_numbers(found: str, expected: str, tolerance: float) -> bool:
    if not (_DECIMAL.fullmatch(found) and _DECIMAL.fullmatch(expected)):
        return False
    return Decimal(found) == Decimal(expected) or _near(float(found), float(expected), tolerance)


def _near(found: float, expected: float, tolerance: float) -> bool:
    try:
        return tolerance > 0 and math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # an integer beyond all floats
        return False


def same_value(packed: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Whether a value (as `inside.wire.pack` made it, or as a program forged it) is the expected
    one, which came from JSON.

    Types count, but a tuple is a list, an integer equals a float of its value, and an integer as
    a dict's key is its text, since JSON has no other. NaN equals nothing, and numbers are equal
    exactly, unless there is a `tolerance`: then a float in either place may differ by that,
    absolutely or relatively.
    """
    if expected is None or isinstance(expected, (bool, str)):
        return type(packed) is type(expected) and bool(packed == expected)
    if isinstance(expected, (int, float)):
        number = _number(packed)
        if number is None or number == expected:
            return number is not None
        floats = isinstance(number, float) or isinstance(expected, float)
        return floats and _near(number, expected, tolerance)
    match packed:
        case ["list" | "tuple", list(items)] if isinstance(expected, list):
            return len(items) == len(expected) and all(
                same_value(item, one, tolerance) for item, one in zip(items, expected, strict=True)
            )
        case ["dict", list(pairs)] if isinstance(expected, dict):
            return len(pairs) == len(expected) and _same_items(pairs, expected, tolerance)
    return False


def _number(packed: Any) -> int | float | None:
    if isinstance(packed, int) and not isinstance(packed, bool):
        return packed
    try:
        match packed:
            case ["int", str(text)]:
                return int(text, 16)
            case ["float", str(text)]:
                return float.fromhex(text)
    except (ValueError, OverflowError):  # forged
        pass
    return None


def _same_items(pairs: list[Any], expected: dict[str, Any], tolerance: float) -> bool:
    left = dict(expected)
    for pair in pairs:
        match pair:
            case [str() | int() as key, value] if not isinstance(key, bool):
                name = str(key)
                if name not in left or not same_value(value, left.pop(name), tolerance):
                    return False
            case _:
                return False
    return not left


def show(packed: Any, depth: int = 8) -> str:
    """A packed value for people, cut to a line, and to a depth, since a program chose its own."""
    match packed:
        case ["float", str(text)]:
            number = _number(packed)
            return short(text if number is None else number)
        case ["int", str(text)]:
            number = _number(packed)
            return short(text if number is None or len(text) > 100 else number)
        case ["object", str(name)]:
            return short(f"<{name} object>")
        case ["list" | "tuple", list(items)] if len(items) <= 20:
            inner = ", ".join(show(item, depth - 1) for item in items) if depth else "…"
            return short(f"[{inner}]", quote=False)
    return short(packed)


def short(value: Any, *, quote: bool = True) -> str:
    """A value's text, cut to 80 characters, in which what a program may have put to upset a
    terminal or a writer of UTF-8 is escaped.
    """
    if quote:
        text = _cut.repr(value)
    else:
        value = str(value)[:200]
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)
    return text if len(text) <= 80 else text[:77] + "…"
