r"""Read what says which real numbers are meant: `1 < x ≤ 3`, `x < 2 or x > 5`, `x ≠ 1`, `|x| ≤ 3`,
`\{x : x < 2\}`, `\mathbb{R} \setminus \{1\}`, and unions of intervals.

All become an interval (a `Group` of two) or a `Union` of intervals that do not touch, in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from filter.verify.maths.algebra import Ratio, add, approximate, equal, negate, number, variable
from filter.verify.maths.forms import Form, Group, Nothing, Scalar, Union
from filter.verify.maths.read_scalars import read_scalar

_SIGN = re.compile(r"<=|>=|!=|\\(?:le|ge|ne)(?![a-zA-Z])|\\not\s?=|<|>")
_ORDERS = {"\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\not=": "!=", "\\not =": "!="}
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
_OR = re.compile(r"(?<![A-Za-z\\])(?:or|oder)(?![a-z])|\\(?:lor|vee|cup)(?![a-zA-Z])")
_AND = re.compile(r"(?<![A-Za-z\\])(?:and|und)(?![a-z])|\\(?:land|wedge|cap)(?![a-zA-Z])|&|;|,")
_LISTED = re.compile(f"{_OR.pattern}|{_AND.pattern}")
_MAX_LISTED = 20
_LETTER = re.compile(r"(?<![A-Za-z\\])[a-df-zA-Z](?![A-Za-z])")
VARIABLE = re.compile(r"\\?[a-zA-Z]+(?:_\w|_\{\w+\})?'*(?:\([a-zA-Z, ]+\))?")
_MODULUS = re.compile(r"\|\s?[a-zA-Z]\s?(?:([+-])\s?([^|]+))?\|")
_REALS = r"(?:\\mathbb\s?\{?\s?R\s?\}?|\\R|(?:all )?real(?: number)?s?(?: [a-z])?)"
_ALL = re.compile(rf"(?:[a-z]\s?\\in\s?)?{_REALS}")
_IN_REALS = re.compile(rf"[a-z]\s?\\in\s?{_REALS}\s?(?:,|;|:|\|)\s?")
_EXCEPT = re.compile(
    rf"(?:[a-z]\s?\\in\s?)?{_REALS}\s?(?:\\setminus|\\backslash|-|except)\s?(?:[a-z]\s?=)?(.+)"
)
_BUILDER = re.compile(r"\\?\{\s?([a-z])\s?(?:\\in\s?" + _REALS + r")?\s?[:|]\s?(.+?)\s?\\?\}")
_PLUS_MINUS = re.compile(r"\\ne\s?\\pm\s?([^,;]+)$")
_TURNED_ROW = re.compile(r"\)\s?\^\s?\{?\s?(?:T|\\top|\\intercal)\s?\}?$")
_SQUARE = re.compile(r"([\[\]])([^\[\](),]+,[^\[\](),]+)([\[\]])")

_OPENS, _CLOSES = {"]": "(", "[": "["}, {"[": ")", "]": "]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """An interval from `low` to `high`, and whether each end belongs to it."""

    low: Scalar
    high: Scalar
    with_low: bool
    with_high: bool


_INFINITY = variable("\\infty")
_LEAST, _MOST = Scalar(negate(_INFINITY)), Scalar(_INFINITY)
_ALL_REALS = (_Piece(low=_LEAST, high=_MOST, with_low=False, with_high=False),)


class _NoSetError(ValueError):
    """A text that says no set of real numbers, or one whose ends can't be put in order."""


def with_usual_brackets(text: str) -> str:
    r"""`]0, 1[` as `(0, 1)`, `\langle 1, 2 \rangle` and `(1, 2)^T` as `(1, 2)`."""
    text = text.replace("\\langle", "(").replace("\\rangle", ")")
    if "," in text:
        text = _TURNED_ROW.sub(")", text)
        text = _SQUARE.sub(lambda m: _OPENS[m[1]] + m[2] + _CLOSES[m[3]], text)
    return text


def read_real_set(text: str) -> Form:
    """The set of real numbers that a cleaned text says by inequalities, or by what it leaves out;
    None where it says none.
    """
    try:
        return _as_form(_read(text))
    except _NoSetError:
        return None


def joined(parts: Sequence[Form]) -> Form:
    """The union of sets that are written with a sign between: intervals that touch become one."""
    try:
        pieces = [_piece(part) for part in parts]
        return _as_form(_merged(pieces))
    except _NoSetError:
        return Union(tuple(parts))


def _read(text: str) -> tuple[_Piece, ...]:
    text = text.strip()
    builder = _BUILDER.fullmatch(text)
    if builder:
        text = builder[2]
    text = _PLUS_MINUS.sub(r"\\ne \1,-\1", _IN_REALS.sub("", text))
    if _ALL.fullmatch(text):
        return _ALL_REALS
    without = _EXCEPT.fullmatch(text)
    if without and without[1].count(",") < _MAX_LISTED:
        return _without(without[1].strip().removeprefix("\\{").removesuffix("\\}"))
    if _SIGN.search(text) is None:
        raise _NoSetError
    if len(set(_LETTER.findall(text))) > 1 and _LISTED.search(text):
        raise _NoSetError  # of several unknowns
    if len(_LISTED.findall(text)) > _MAX_LISTED:
        raise _NoSetError
    alternatives = _OR.split(text)
    if len(alternatives) > 1:
        return _merged([piece for part in alternatives for piece in _read(part.strip(" ,"))])
    conditions = [part for part in _AND.split(text) if part.strip()]
    if len(conditions) > 1:
        return _all_of(conditions)
    return _inequality(text)


def _all_of(conditions: list[str]) -> tuple[_Piece, ...]:
    """What a list of conditions says: all of them, as `x > 1, x < 3`; where nothing meets all of
    them each is a case, as in `x < 2, x > 5`.
    """
    if "\\ne" in conditions[0] and not any(map(_SIGN.search, conditions[1:])):
        return _without(",".join(conditions).partition("\\ne")[2])
    read = [_inequality(condition) for condition in conditions]
    both = read[0]
    for other in read[1:]:
        both = _common(both, other)
    return both or _merged([piece for pieces in read for piece in pieces])


def _inequality(text: str) -> tuple[_Piece, ...]:
    marks = list(_SIGN.finditer(text))
    edges = [0, *(edge for mark in marks for edge in mark.span()), len(text)]
    sides = [text[edges[i] : edges[i + 1]].strip() for i in range(0, len(edges), 2)]
    signs = [_ORDERS.get(mark.group(), mark.group()) for mark in marks]
    if len(sides) not in (2, 3) or not all(sides) or "=" in sides:
        raise _NoSetError
    middle = 1 if len(sides) == 3 else next((n for n in (0, 1) if _is_unknown(sides[n])), -1)
    if middle < 0 or not _is_unknown(sides[middle]):
        raise _NoSetError
    if len(sides) == 2:
        sign = signs[0] if middle == 0 else _TURNED[signs[0]]
        return _bound(sides[middle], sign, sides[1 - middle])
    return _between(sides, signs)


def _between(sides: list[str], signs: list[str]) -> tuple[_Piece, ...]:
    """What `a < x <= b` says; a and b may have no order, as `a < x < b` itself."""
    if {sign[0] for sign in signs} == {">"}:
        sides, signs = sides[::-1], [_TURNED[sign] for sign in signs[::-1]]
    if {sign[0] for sign in signs} != {"<"}:
        raise _NoSetError
    if _MODULUS.fullmatch(sides[1]):
        above = _bound(sides[1], _TURNED[signs[0]], sides[0])
        return _common(above, _bound(sides[1], signs[1], sides[2]))
    low, high = Scalar(_value(sides[0])), Scalar(_value(sides[2]))
    with_low, with_high = (sign == "<=" for sign in signs)
    return (_Piece(low=low, high=high, with_low=with_low, with_high=with_high),)


def _is_unknown(side: str) -> bool:
    return (VARIABLE.fullmatch(side) or _MODULUS.fullmatch(side)) is not None


def _bound(unknown: str, sign: str, side: str) -> tuple[_Piece, ...]:
    """The numbers x with `x sign value`, or with `|x + a| sign value`."""
    value = _value(side)
    modulus = _MODULUS.fullmatch(unknown)
    if modulus is None:
        return _half_line(sign, value)
    shift = _value(modulus[2]) if modulus[2] else number(0)
    centre = shift if modulus[1] == "-" else negate(shift)
    right, left = add(centre, value), add(centre, negate(value))
    if sign[0] == "<":
        return _common(_half_line(sign, right), _half_line(_TURNED[sign], left))
    if sign == "!=":
        return _common(_half_line(sign, right), _half_line(sign, left))
    return _merged([*_half_line(_TURNED[sign], left), *_half_line(sign, right)])


def _half_line(sign: str, value: Ratio) -> tuple[_Piece, ...]:
    end = Scalar(value)
    closed = sign in ("<=", ">=")
    below = _Piece(low=_LEAST, high=end, with_low=False, with_high=closed)
    above = _Piece(low=end, high=_MOST, with_low=closed, with_high=False)
    return (below,) if sign[0] == "<" else (above,) if sign[0] == ">" else (below, above)


def _without(points: str) -> tuple[_Piece, ...]:
    pieces: tuple[_Piece, ...] = _ALL_REALS
    for point in points.split(","):
        pieces = _common(pieces, _half_line("!=", _value(point)))
    return pieces


def _value(text: str) -> Ratio:
    form = read_scalar(text)
    if not isinstance(form, Scalar) or form.unit:
        raise _NoSetError
    return form.value


def _piece(form: Form) -> _Piece:
    match form:
        case Group(opens, closes, (Scalar() as low, Scalar() as high)) if opens and opens != "{":
            return _Piece(low=low, high=high, with_low=opens == "[", with_high=closes == "]")
    raise _NoSetError


def _place(end: Scalar) -> Decimal:
    if end.value == _INFINITY:
        return Decimal("Infinity")
    if equal(end.value, _LEAST.value):
        return Decimal("-Infinity")
    place = approximate(end.value)
    if place is None:
        raise _NoSetError
    return place


def _common(a: Sequence[_Piece], b: Sequence[_Piece]) -> tuple[_Piece, ...]:
    found = []
    for one in a:
        for other in b:
            low = max(one, other, key=lambda piece: (_place(piece.low), not piece.with_low))
            high = min(one, other, key=lambda piece: (_place(piece.high), piece.with_high))
            begin, end = _place(low.low), _place(high.high)
            if begin < end or (begin == end and low.with_low and high.with_high):
                ends = {"with_low": low.with_low, "with_high": high.with_high}
                found.append(_Piece(low=low.low, high=high.high, **ends))
    return tuple(found)


def _merged(pieces: Sequence[_Piece]) -> tuple[_Piece, ...]:
    kept: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: (_place(piece.low), not piece.with_low)):
        last = kept[-1] if kept else None
        if last is None or not _touch(last, piece):
            kept.append(piece)
            continue
        farthest = max(last, piece, key=lambda one: (_place(one.high), one.with_high))
        kept[-1] = _Piece(
            low=last.low, high=farthest.high, with_low=last.with_low, with_high=farthest.with_high
        )
    return tuple(kept)


def _touch(left: _Piece, right: _Piece) -> bool:
    end, begin = _place(left.high), _place(right.low)
    return begin < end or (begin == end and (left.with_high or right.with_low))


def _as_form(pieces: Sequence[_Piece]) -> Form:
    groups = tuple(
        Group("[" if piece.with_low else "(", "]" if piece.with_high else ")",
              (piece.low, piece.high))
        for piece in pieces
    )  # fmt: skip
    if not groups:
        return Nothing()
    return groups[0] if len(groups) == 1 else Union(groups)
