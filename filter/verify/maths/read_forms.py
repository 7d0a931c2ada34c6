"""Read a text as the form it has. What is not surely understood has none."""

from __future__ import annotations

import re

from filter.verify.maths.algebra import TooDearError, divide
from filter.verify.maths.assignments import assigned
from filter.verify.maths.forms import Equation, Form, Group, Nothing, Proportion, Scalar, Words
from filter.verify.maths.matrices import read_matrix
from filter.verify.maths.names import applied, read_name
from filter.verify.maths.normalise import squeeze
from filter.verify.maths.read_scalars import read_notation, read_plain, read_scalar
from filter.verify.maths.real_sets import VARIABLE, joined, read_real_set, with_usual_brackets

_MAX_LENGTH = 3_000
_MAX_ITEMS = 200

_GROUPED = re.compile(r"((?:\\usd|\\euro|\\pound)? ?[+-]?)(\d{1,3}(?:,\d{3})+(?!\d))([^,]*)")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[ \\^%][^\d,]*)?")
_ALL_TRIPLES = re.compile(r"[1-9]\d\d(?:,[1-9]\d\d)+")
_NOTHING = re.compile(
    r"\\emptyset|\\\{\s?\\\}|(?:there (?:is|are) )?no (?:real |such |integer |valid )?"
    r"(?:solutions?|roots?|values?|numbers?|integers?)(?: exists?)?|none|empty set|the empty set",
    re.IGNORECASE,
)
_MEMBER = re.compile(r"[a-zA-Z](?:_\w|_\{\w+\})?\s?(?:\\in(?![a-zA-Z])|:)\s?(?=[(\[\\])")
_INEQUALITY = re.compile(r"<|>|!=|\\(?:le|ge|ne|not)(?![a-zA-Z])")
_BRACKETED = re.compile(r"\([^()]*\)")
_SAYS_SET = re.compile(_INEQUALITY.pattern + r"|\\mathbb|\\R(?![a-zA-Z])|\breals?\b")
_COLON = re.compile(r"[\d)}]\s?:|[a-z]\s?:\s?[a-z]")
_CONNECTIVE = re.compile(
    r"(?<![A-Za-z\\])(?:and|or|und|oder)(?![a-z])|\\(?:lor|land|vee|wedge)(?![a-zA-Z])|;"
)
_INNER = r"[a-zA-Z0-9, =<>\-/\\{}]"
_NAMING = re.compile(
    r"(?:[a-zA-Z]'*|\\[a-zA-Z]+(?![a-zA-Z])|_\w|_\{[^{}]*\}|\{[A-Za-z]+\}|[ +|*:/]"
    rf"|\((?:{_INNER}|\({_INNER}*\))*\))+|[A-Za-z][A-Za-z ,']*"
)
_ARGUMENT = re.compile(r"(?<=^[A-Za-z])\([a-z]\)$")


def is_list_of_triples(cleaned: str) -> bool:
    """Whether a text may be a list (`100,200`) as well as one number: three digits everywhere,
    and no zero before them, as `900,000` has.
    """
    return _ALL_TRIPLES.fullmatch(cleaned) is not None


def read_decimal_comma(cleaned: str) -> Form:
    """The number that `3,14` is where the comma separates decimals."""
    return read(cleaned.replace(",", ".")) if _DECIMAL_COMMA.fullmatch(cleaned) else None


def read(cleaned: str, *, triples_are_lists: bool = False, is_word: bool = False) -> Form:
    """The form of a cleaned text (`normalise.clean`); None where it is not understood.

    `triples_are_lists` reads `100,200` as two numbers, `is_word` letters as a word and no product.
    """
    plain = read_plain(cleaned, triples_are_lists=triples_are_lists)
    if plain is not None:
        return plain
    if len(cleaned) > _MAX_LENGTH or not cleaned:
        return None
    if is_word and (word := read_name(cleaned, is_word=True)):
        return word
    try:
        return _read(applied(with_usual_brackets(cleaned)), triples_are_lists, 0)
    except TooDearError:
        return None


def _read(text: str, triples: bool, depth: int) -> Form:
    text = text.strip()
    if depth > 6 or not text:
        return None
    plain = read_plain(text, triples_are_lists=triples)
    if plain is not None:
        return plain
    if _NOTHING.fullmatch(text):
        return Nothing()
    form = read_notation(text) or read_name(text)
    if form is None and "\\begin" in text:
        matrix = read_matrix(text, lambda entry: _read(entry, triples, depth + 1))
        return matrix or _read_relation(text, triples, depth)
    if form is None and _SAYS_SET.search(text):
        form = read_real_set(text)
    if form is None and _COLON.search(text):
        form = _read_proportion(text, triples, depth)
    if form is not None:
        return form
    member = _MEMBER.match(text)
    if member:
        return _read(text[member.end() :], triples, depth + 1)
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
            return joined([_read(part, triples, depth + 1) for part in parts])
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


def _read_relation(text: str, triples: bool, depth: int) -> Form:
    exact, approximately, rounded = text.partition("\\approx")
    if approximately and exact.strip():
        named = VARIABLE.fullmatch(exact.strip())
        return _read(rounded if named else exact, triples, depth + 1)
    sides = [side.strip() for side in _split(text, "=")]
    if not 2 <= len(sides) <= 9 or not all(sides) or _INEQUALITY.search(_BRACKETED.sub("", text)):
        return None
    # `AB = 5` names a length; `AB + BC = AC` is a sum of lengths, which commute.
    names = _NAMING.fullmatch(sides[0]) is not None and sides[0] not in ("e", "\\pi", "i")
    forms = tuple(_read(side, triples, depth + 1) for side in sides)
    first = squeeze(sides[0])
    first = "y" if first == "f(x)" else _ARGUMENT.sub("", first)
    return Equation(forms, names, first)


def _read_proportion(text: str, triples: bool, depth: int) -> Form:
    terms = _split(text, ":")
    if len(terms) < 2 or "=" in text or not all(term.strip() for term in terms):
        return None
    forms = tuple(_read(term, triples, depth + 1) for term in terms)
    if len(forms) > 2:
        return Proportion(forms)
    match forms:
        case (Scalar(a), Scalar(b)) if b.top:
            return Scalar(divide(a, b))
    return None


def _read_bracketed(text: str, triples: bool, depth: int) -> Form:
    if text.startswith("\\{") and text.endswith("\\}"):
        opens, closes, inner = "{", "}", text[2:-2]
    elif text[0] in "([" and text[-1] in ")]":
        opens, closes, inner = text[0], text[-1], text[1:-1]
    elif text[0] == "{" and text[-1] == "}":
        opens, closes, inner = "{", "}", text[1:-1]
    else:
        return None
    items = [item for item in _split(_CONNECTIVE.sub(",", inner), ",") if item.strip()]
    if _split_depth_fails(inner):
        return None
    if opens == "{" and not text.startswith("\\") and len(items) == 1:
        return _read(inner, triples, depth + 1)
    if len(items) > 1 or opens == "{":
        return _list(items, opens, closes, True, depth)
    if opens == "(" and closes == ")":
        form = _read(inner, triples, depth + 1)
        return form if isinstance(form, Words | Equation | Group) else None
    return None


def _read_tuples(text: str, triples: bool, depth: int) -> Form:
    """The pairs (or longer) that `x=1, y=2; x=3, y=4` says, with `;` or a word between them."""
    parts = [part for part in _CONNECTIVE.split(text) if part.strip()]
    if len(parts) < 2 or "=" not in parts[0] or "," not in parts[0]:
        return None
    names: list[str] | None = None
    tuples: list[Form] = []
    for part in parts:
        named = assigned(_read(part, triples, depth + 1))
        if named is None or (names is not None and sorted(names) != sorted(named)):
            return None
        names = names or list(named)
        tuples.append(Group("(", ")", tuple(named[name] for name in names)))
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
