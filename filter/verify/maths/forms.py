r"""What shapes an answer has: a value, a list, an interval, an equation, a text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from filter.verify.maths.algebra import Ratio, add, negate, number
from filter.verify.maths.normalise import squeeze
from filter.verify.maths.reading import read_value
from filter.verify.maths.units import Unit, read_unit


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value, with its unit if it has one; `decimals` counts those of a plain decimal."""

    value: Ratio
    unit: Unit | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Based:
    """Digits in a numeral base."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day: minutes as written, and `am`, `pm` or nothing. Also a ratio such as 3:20."""

    hours: int
    minutes: int
    half: str


@dataclass(frozen=True, slots=True)
class Words:
    """A text."""

    text: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """No solution; the empty set."""


@dataclass(frozen=True, slots=True)
class Group:
    r"""Items in brackets: `(`, `[`, `{` (a set), or "" for a bare list."""

    opens: str
    closes: str
    items: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """A union of intervals or sets."""

    parts: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries."""

    rows: tuple[tuple[Form, ...], ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """Sides that are said to be equal. `names` is whether the first only names what the last is:
    `x`, `f(x)`, `m+n`, `area`.
    """

    sides: tuple[Form, ...]
    names: bool
    first: str


@dataclass(frozen=True, slots=True)
class Huge:
    """An integer of thousands of digits, as its digits."""

    digits: str


Form = Scalar | Based | Clock | Words | Nothing | Group | Union | Matrix | Equation | Huge | None
"""None: not understood."""

_MAX_LENGTH = 3_000
_MAX_ITEMS = 200

_PLAIN = re.compile(r"([+-]?)(\d+)(?:\.(\d*))?|([+-]?)\.(\d+)")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_GROUPED = re.compile(r"((?:\\usd|\\euro|\\pound)? ?[+-]?)(\d{1,3}(?:,\d{3})+(?!\d))([^,]*)")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_SPACED = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_ALL_TRIPLES = re.compile(r"[1-9]\d\d(?:,[1-9]\d\d)+")
_MIXED = re.compile(r"([+-]?\d+)(?: |\s?-\s?|\s?\+\s?| and )(\d+)/(\d+)")
_SCIENTIFIC = re.compile(
    r"([+-]?\d+(?:\.\d+)?|[+-]?\.\d+)\s?(?:[eE]\s?([+-]?\d+)"
    r"|(?:\\cdot|\*|x|X|\\cdot\s?10)\s?10\s?\^\s?(?:\{\s?([+-]?\d+)\s?\}|([+-]?\d+)))"
)
_BASED = re.compile(
    r"\(?([0-9A-Fa-f]+)\)?\s?_\s?(?:\{?\s?(\d+)\s?\}?"
    r"|\{?\s?(two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen)\s?\}?)"
)
_BASED_WORDS = re.compile(r"([0-9A-Fa-f]+)\s?\(?(?:in )?base[ -](\d+)\)?")
_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "twelve": 12, "sixteen": 16,
}  # fmt: skip
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})\s?(?:([aApP])\.?\s?(?:[mM]\.?)?)?")
_HOUR = re.compile(r"(\d{1,2})\s?([aApP])\.?\s?[mM]\.?")
_RATIO = re.compile(r"(\d+)\s?:\s?(\d+)")
_NOTHING = re.compile(
    r"\\emptyset|\\\{\s?\\\}|(?:there (?:is|are) )?no (?:real |such |integer |valid )?"
    r"(?:solutions?|roots?|values?|numbers?|integers?)(?: exists?)?|none|empty set|the empty set",
    re.IGNORECASE,
)
_COUNTS = {
    word: value
    for value, word in enumerate(
        (
            "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
            "eleven", "twelve",
        )
    )
}  # fmt: skip
_SHORT_WORDS = frozenset({"yes", "no", "odd"})
_WORDS = re.compile(r"[A-Za-z][A-Za-z'\-]*(?:[ ,]+[A-Za-z'\-]+)*")
_MATRIX = re.compile(r"\\begin\{([pbvB]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}", re.DOTALL)
_MEMBER = re.compile(r"[a-zA-Z](?:_\w|_\{\w+\})?\s?(?:\\in(?![a-zA-Z])|:)\s?(?=[(\[\\])")
_RELATION = re.compile(r"<=|>=|!=|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|<|>|=")
_ORDERS = {"<": "<", ">": ">", "<=": "<=", ">=": ">=", "\\le": "<=", "\\ge": ">="}
_CONNECTIVE = re.compile(
    r"(?<![A-Za-z\\])(?:and|or|und|oder)(?![A-Za-z])|\\(?:lor|land|vee|wedge)(?![a-zA-Z])|;"
)
_UNIT_AFTER = re.compile(
    r"(?P<unit>\\usd|\\euro|\\pound|\^\s?\\circ(?: ?[CF](?![a-zA-Z]))?"
    r"|(?<![\\A-Za-z])[A-Za-z][A-Za-z \-/'.]*(?:\^\s?[23])?)$"
)
_NAMING = re.compile(
    r"(?:[a-zA-Z]'*|\\[a-zA-Z]+|_\w|_\{[^{}]*\}|\{[A-Za-z]+\}|[ +|*:/]|\([a-zA-Z0-9, ]*\)|\\cdot)+"
    r"|[A-Za-z][A-Za-z ,']*"
)
_VARIABLE = re.compile(r"\\?[a-zA-Z]+(?:_\w|_\{\w+\})?'*(?:\([a-zA-Z, ]+\))?")


def is_list_of_triples(cleaned: str) -> bool:
    """Whether a text may be a list (`100,200`) as well as one number: three digits everywhere,
    and no zero before them, as `900,000` has.
    """
    return _ALL_TRIPLES.fullmatch(cleaned) is not None


@cache
def infinity() -> Ratio:
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
    plain = _read_plain(cleaned, triples_are_lists)
    if plain is not None:
        return plain
    if len(cleaned) > _MAX_LENGTH or not cleaned:
        return None
    return _read(cleaned, triples_are_lists, 0)


def _read_plain(text: str, triples_are_lists: bool) -> Form:
    match = _PLAIN.fullmatch(text)
    if match is None:
        if not triples_are_lists and _THOUSANDS.fullmatch(text):
            return _read_plain(text.replace(",", ""), True)
        if _SPACED.fullmatch(text):
            return _read_plain(text.replace(" ", ""), True)
        return None
    sign, whole, fixed = match[1] or match[4] or "", match[2] or "", match[3] or match[5] or ""
    if len(whole) + len(fixed) > 4_000:  # beyond what int() takes
        return None if fixed else Huge(sign.strip("+") + (whole.lstrip("0") or "0"))
    value = Fraction(int(whole + fixed), 10 ** len(fixed)) if fixed else Fraction(int(whole))
    return Scalar(number(-value if sign == "-" else value), decimals=len(fixed) or None)


def _read(text: str, triples: bool, depth: int) -> Form:
    text = text.strip()
    if depth > 6 or not text:
        return None
    plain = _read_plain(text, triples)
    if plain is not None:
        return plain
    if _NOTHING.fullmatch(text):
        return Nothing()
    for special in (_read_special, _read_matrix):
        form = special(text, triples, depth)
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
    return _read_scalar(text)


def _read_special(text: str, triples: bool, depth: int) -> Form:
    based = _BASED.fullmatch(text)
    if (
        based
        and not (len(based[1]) == 1 and based[1].isalpha())
        and any(map(str.isdigit, based[1]))
    ):
        return Based(based[1].lstrip("0").upper(), int(based[2]) if based[2] else _BASES[based[3]])
    based = _BASED_WORDS.fullmatch(text)
    if based:
        return Based(based[1].lstrip("0").upper(), int(based[2]))
    clock = _CLOCK.fullmatch(text)
    if clock:
        return Clock(int(clock[1]), int(clock[2]), (clock[3] or "").lower())
    hour = _HOUR.fullmatch(text)
    if hour:
        return Clock(int(hour[1]), 0, hour[2].lower())
    ratio = _RATIO.fullmatch(text)
    if ratio and len(text) < 40 and int(ratio[2]):
        return Scalar(number(Fraction(int(ratio[1]), int(ratio[2]))))
    mixed = _MIXED.fullmatch(text)
    if mixed and "-" not in text[1:] and len(text) < 60 and int(mixed[3]):
        part = Fraction(int(mixed[2]), int(mixed[3]))
        whole = int(mixed[1])
        return Scalar(number(whole - part if text[0] == "-" else whole + part))
    scientific = _SCIENTIFIC.fullmatch(text)
    if scientific:
        exponent = int((scientific[2] or scientific[3] or scientific[4])[:8])
        if abs(exponent) <= 3_000 and len(text) < 400:
            return Scalar(number(Fraction(scientific[1]) * Fraction(10) ** exponent))
    if text.casefold() in _COUNTS:
        return Scalar(number(_COUNTS[text.casefold()]))
    return None


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
        first = "y" if first == "f(x)" else first
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
    low: Form = Scalar(negate(infinity()))
    high: Form = Scalar(infinity())
    opens, closes = "(", ")"
    if place > 0:
        low, opens = _read_scalar(sides[place - 1]), "[" if signs[place - 1] == "<=" else "("
    if place < len(sides) - 1:
        high, closes = _read_scalar(sides[place + 1]), "]" if signs[place] == "<=" else ")"
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


def _read_scalar(text: str) -> Form:
    text = text.strip()
    if text.casefold() in _SHORT_WORDS:
        return Words(text.casefold())
    value = read_value(squeeze(text))
    plain = _read_plain(text, False)
    if plain is not None:
        return plain
    unit = None
    rest = text
    for money in ("\\usd", "\\euro", "\\pound"):
        if rest.startswith(money):
            unit, rest = read_unit(money), rest[len(money) :].strip()
        elif rest.startswith(("-" + money, "- " + money)):
            unit, rest = read_unit(money), "-" + rest.partition(money)[2].strip()
    if unit is None:
        after = _UNIT_AFTER.search(rest)
        if after and after.start():
            # A letter right after a number, as in `2k`, is a factor and no unit.
            gap = rest[after.start() - 1] in " }" or len(after["unit"].strip()) > 1
            name = after["unit"].lstrip("^ ")
            name = "\\circ" if name.startswith("\\circ") else name
            found = read_unit(name) if gap else None
            if found is not None:
                inner = _read_number(rest[: after.start()].strip())
                if inner is not None:
                    return Scalar(inner.value, found, inner.decimals)
    elif rest:
        inner = _read_number(rest)
        return Scalar(inner.value, unit, inner.decimals) if inner else None
    if value is not None:
        return Scalar(value)
    if _WORDS.fullmatch(text) and any(len(word) > 3 for word in re.split(r"[^A-Za-z]+", text)):
        return Words(" ".join(text.casefold().replace("-", " ").split()))
    if re.fullmatch(r"\(?[A-Z]\)?", text):
        return Words(text.strip("()"))
    return None


def _read_number(text: str) -> Scalar | None:
    plain = _read_plain(text, False)
    if plain is None:
        plain = _read_special(text, False, 0)
    if isinstance(plain, Scalar):
        return plain
    value = read_value(squeeze(text))
    return None if value is None else Scalar(value)


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


def difference(a: Ratio, b: Ratio) -> Ratio:
    """The difference a - b."""
    return add(a, negate(b))
