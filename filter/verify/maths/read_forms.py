"""Read a text as the form it has. What is not surely understood has none."""

from __future__ import annotations

import re
from functools import cache

from filter.verify.maths.algebra import Ratio, negate
from filter.verify.maths.forms import (
    Equation,
    Form,
    Group,
    Matrix,
    Nothing,
    Scalar,
    Union,
    Words,
    assigns,
)
from filter.verify.maths.normalise import squeeze
from filter.verify.maths.read_scalars import read_notation, read_plain, read_scalar
from filter.verify.maths.reading import read_value

_MAX_LENGTH = 3_000
_MAX_ITEMS = 200

_GROUPED = re.compile(r"((?:\\usd|\\euro|\\pound)? ?[+-]?)(\d{1,3}(?:,\d{3})+(?!\d))([^,]*)")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_ALL_TRIPLES = re.compile(r"[1-9]\d\d(?:,[1-9]\d\d)+")
_NOTHING = re.compile(
    r"\\emptyset|\\\{\s?\\\}|(?:there (?:is|are) )?no (?:real |such |integer |valid )?"
    r"(?:solutions?|roots?|values?|numbers?|integers?)(?: exists?)?|none|empty set|the empty set",
    re.IGNORECASE,
)
_MATRIX = re.compile(r"\\begin\{([pbvB]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}", re.DOTALL)
_MEMBER = re.compile(r"[a-zA-Z](?:_\w|_\{\w+\})?\s?(?:\\in(?![a-zA-Z])|:)\s?(?=[(\[\\])")
_RELATION = re.compile(r"<=|>=|!=|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|<|>|=")
_ORDERS = {"<": "<", ">": ">", "<=": "<=", ">=": ">=", "\\le": "<=", "\\ge": ">="}
_CONNECTIVE = re.compile(
    r"(?<![A-Za-z\\])(?:and|or|und|oder)(?![a-z])|\\(?:lor|land|vee|wedge)(?![a-zA-Z])|;"
)
_NAMING = re.compile(
    r"(?:[a-zA-Z]'*|\\[a-zA-Z]+|_\w|_\{[^{}]*\}|\{[A-Za-z]+\}|[ +|*:/]|\([a-zA-Z0-9, ]*\)|\\cdot)+"
    r"|[A-Za-z][A-Za-z ,']*"
)
_ARGUMENT = re.compile(r"(?<=^[A-Za-z])\([a-z]\)$")
_VARIABLE = re.compile(r"\\?[a-zA-Z]+(?:_\w|_\{\w+\})?'*(?:\([a-zA-Z, ]+\))?")


def is_list_of_triples(cleaned: str) -> bool:
    """Whether a text may be a list (`100,200`) as well as one number: three digits everywhere,
    and no zero before them, as `900,000` has.
    """
    return _ALL_TRIPLES.fullmatch(cleaned) is not None


@cache
def _infinity() -> Ratio:
    """The value that stands for infinity."""
    value = read_value("\\infty")
    assert value is not None
    return value


def read_decimal_comma(cleaned: str) -> Form:
    """The number that `3,14` is where the comma separates decimals."""
    return read(cleaned.replace(",", ".")) if _DECIMAL_COMMA.fullmatch(cleaned) else None


def read(cleaned: str, *, triples_are_lists: bool = False) -> Form:
    """The form of a cleaned text (`normalise.clean`); None where it is not understood.

    `triples_are_lists` reads `100,200` as two numbers.
    """
    plain = read_plain(cleaned, triples_are_lists=triples_are_lists)
    if plain is not None:
        return plain
    if len(cleaned) > _MAX_LENGTH or not cleaned:
        return None
    return _read(cleaned, triples_are_lists, 0)


def _read(text: str, triples: bool, depth: int) -> Form:
    text = text.strip()
    if depth > 6 or not text:
        return None
    plain = read_plain(text, triples_are_lists=triples)
    if plain is not None:
        return plain
    if _NOTHING.fullmatch(text):
        return Nothing()
    form = read_notation(text) or _read_matrix(text, triples, depth)
    if form is not None:
        return form
    member = _MEMBER.match(text)
    if member:
        return _read(text[member.end() :], triples, depth + 1)
    if "\\begin" in text:
        return None
    if not triples:
        grouped = _GROUPED.fullmatch(text)
        if grouped:
            text = grouped[1] + grouped[2].replace(",", "") + grouped[3]
    tuples = _read_tuples(text, triples, depth)
    if tuples is not None:
        return tuples
    text = _CONNECTIVE.sub(",", text)
    if "\\cup" in text or " U " in text:
        parts = _split(text.replace(" U ", "\\cup "), "\\cup")
        if len(parts) > 1:
            return Union(tuple(_read(part, triples, depth + 1) for part in parts))
    items = [item for item in _split(text, ",") if item.strip()]
    if len(items) > 1:
        return _list(items, "", "", triples, depth)
    if not items:
        return None
    text = items[0].strip()
    relation = _read_relation(text, triples, depth)
    if relation is not None:
        return relation
    bracketed = _read_bracketed(text, triples, depth)
    if bracketed is not None:
        return bracketed
    if "\\pm" in text or "\\mp" in text:
        return _list([text], "", "", triples, depth)
    return read_scalar(text)


def _read_matrix(text: str, triples: bool, depth: int) -> Form:
    match = _MATRIX.fullmatch(text)
    if match is None or "\\begin" in match[2]:
        return None
    rows = [row for row in match[2].split("\\\\") if row.strip()]
    if len(rows) > 20:
        return None
    return Matrix(
        tuple(tuple(_read(cell, triples, depth + 1) for cell in row.split("&")) for row in rows)
    )


def _read_relation(text: str, triples: bool, depth: int) -> Form:
    exact, approximately, rounded = text.partition("\\approx")
    if approximately and exact.strip():
        named = _VARIABLE.fullmatch(exact.strip())
        return _read(rounded if named else exact, triples, depth + 1)
    marks = list(_RELATION.finditer(text))
    if not marks or len(marks) > 8:
        return None
    edges = [0, *(edge for mark in marks for edge in mark.span()), len(text)]
    sides = [text[edges[i] : edges[i + 1]].strip() for i in range(0, len(edges), 2)]
    signs = [mark.group() for mark in marks]
    if any(not side for side in sides):
        return None
    if all(sign == "=" for sign in signs):
        forms = tuple(_read(side, triples, depth + 1) for side in sides)
        first = squeeze(sides[0])
        first = "y" if first == "f(x)" else _ARGUMENT.sub("", first)
        names = _NAMING.fullmatch(sides[0]) is not None and sides[0] not in ("e", "\\pi", "i")
        return Equation(forms, names, first)
    if any(sign not in _ORDERS for sign in signs):
        return None
    return _interval(sides, [_ORDERS[sign] for sign in signs])


def _interval(sides: list[str], signs: list[str]) -> Form:
    """The interval that `a < x ≤ b` says x lies in."""
    if {sign[0] for sign in signs} == {">"}:
        sides = sides[::-1]
        signs = [sign.replace(">", "<") for sign in signs[::-1]]
    if {sign[0] for sign in signs} != {"<"}:
        return None
    place = 1 if len(sides) == 3 else next((i for i in (0, 1) if _VARIABLE.fullmatch(sides[i])), -1)
    if len(sides) > 3 or place < 0 or not _VARIABLE.fullmatch(sides[place]):
        return None
    low: Form = Scalar(negate(_infinity()))
    high: Form = Scalar(_infinity())
    opens, closes = "(", ")"
    if place > 0:
        low, opens = read_scalar(sides[place - 1]), "[" if signs[place - 1] == "<=" else "("
    if place < len(sides) - 1:
        high, closes = read_scalar(sides[place + 1]), "]" if signs[place] == "<=" else ")"
    return Group(opens, closes, (low, high))


def _read_bracketed(text: str, triples: bool, depth: int) -> Form:
    if text.startswith("\\{") and text.endswith("\\}"):
        opens, closes, inner = "{", "}", text[2:-2]
    elif text[0] in "([" and text[-1] in ")]":
        opens, closes, inner = text[0], text[-1], text[1:-1]
    elif text[0] == "{" and text[-1] == "}":
        opens, closes, inner = "{", "}", text[1:-1]
    elif text.startswith("\\langle") and text.endswith("\\rangle"):
        opens, closes, inner = "(", ")", text[7:-7]
    else:
        return None
    items = [item for item in _split(_CONNECTIVE.sub(",", inner), ",") if item.strip()]
    if _split_depth_fails(inner):
        return None
    if opens == "{" and not text.startswith("\\") and len(items) == 1:
        return _read(inner, triples, depth + 1)
    if len(items) > 1 or opens == "{":
        return _list(items, opens, closes, True, depth)
    if opens == "(" and closes == ")" and _split_depth_fails(inner) is False:
        form = _read(inner, triples, depth + 1)
        return form if isinstance(form, Words | Equation | Group) else None
    return None


def _read_tuples(text: str, triples: bool, depth: int) -> Form:
    """The pairs (or longer) that `x=1, y=2; x=3, y=4` says."""
    parts = [part for part in _split(text, ";") if part.strip()]
    if len(parts) < 2 or "=" not in parts[0] or "," not in parts[0]:
        return None
    names: list[str] | None = None
    tuples: list[Form] = []
    for part in parts:
        form = _read(part, triples, depth + 1)
        if not isinstance(form, Group) or not assigns(form):
            return None
        equations = [item for item in form.items if isinstance(item, Equation)]
        if names is not None and names != [equation.first for equation in equations]:
            return None
        names = [equation.first for equation in equations]
        tuples.append(Group("(", ")", tuple(equation.sides[-1] for equation in equations)))
    return Group("", "", tuple(tuples))


def _list(items: list[str], opens: str, closes: str, triples: bool, depth: int) -> Form:
    if len(items) > _MAX_ITEMS:
        return None
    forms: list[Form] = []
    for item in items:
        if "\\pm" in item or "\\mp" in item:
            plus = item.replace("\\pm", "+").replace("\\mp", "-")
            minus = item.replace("\\pm", "-").replace("\\mp", "+")
            forms += [_read(plus, triples, depth + 1), _read(minus, triples, depth + 1)]
        else:
            forms.append(_read(item, triples, depth + 1))
    return Group(opens, closes, tuple(forms))


def _split(text: str, separator: str) -> list[str]:
    """Split where the separator stands in no bracket."""
    if separator not in text:
        return [text]
    parts, depth, begin, place = [], 0, 0, 0
    while place < len(text):
        char = text[place]
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth <= 0 and text.startswith(separator, place):
            parts.append(text[begin:place])
            begin = place + len(separator)
            place = begin
            continue
        place += 1
    parts.append(text[begin:])
    return parts


def _split_depth_fails(inner: str) -> bool:
    """Whether a bracket closes that was not opened, as inside `(1,2) + (3,4)`."""
    depth = 0
    for char in inner:
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth < 0:
                return True
    return depth != 0
