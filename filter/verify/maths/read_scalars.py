"""Read what is one thing: a number in any of its notations, with its unit, a time, a word."""

from __future__ import annotations

import re
from fractions import Fraction

from filter.verify.maths.algebra import multiply, number
from filter.verify.maths.forms import Based, Clock, Form, Huge, Scalar, Words
from filter.verify.maths.normalise import squeeze
from filter.verify.maths.reading import read_value
from filter.verify.maths.units import LETTER, LETTERS, read_unit, without_multiple

_PLAIN = re.compile(r"([+-]?)(\d+)(?:\.(\d*))?|([+-]?)\.(\d+)")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_SPACED = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_MIXED = re.compile(r"([+-]?\d+)(?: |\s?-\s?|\s?\+\s?| and )(\d+)/(\d+)")
_SCIENTIFIC = re.compile(
    r"([+-]?\d+(?:\.\d+)?|[+-]?\.\d+)\s?(?:[eE]\s?([+-]?\d+)"
    r"|(?:\\cdot|\*|x|X|\\cdot\s?10)\s?10\s?\^\s?(?:\{\s?([+-]?\d+)\s?\}|([+-]?\d+)))"
)
_COUNTS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "sixteen": 16,
}  # fmt: skip
_BASED = re.compile(rf"\(?([0-9A-Fa-f]+)\)?\s?_\s?\{{?\s?(\d+|{'|'.join(_COUNTS)})\s?\}}?")
_BASED_WORDS = re.compile(r"([0-9A-Fa-f]+)\s?\(?(?:in )?base[ -](\d+)\)?")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})\s?(?:([aApP])\.?\s?(?:[mM]\.?)?)?")
_HOUR = re.compile(r"(\d{1,2})\s?([aApP])\.?\s?[mM]\.?")
_SHORT_WORDS = frozenset({"yes", "no", "odd"})
_WORDS = re.compile(rf"{LETTER}(?:{LETTERS}|['\-])*(?:[ ,]+(?:{LETTERS}|['\-])+)*")
_MONEY_NAMES = "usd|euro|pound|yen|rupee|ruble|won|lira|dong"
_MONEY = tuple(f"\\{name}" for name in _MONEY_NAMES.split("|"))
_UNIT_AFTER = re.compile(
    rf"(?P<unit>\\(?:{_MONEY_NAMES})|\^\s?\\circ(?: ?[CF](?![a-zA-Z]))?"
    rf"|(?<!\\)(?<!{LETTER}){LETTER}(?:{LETTERS}|[ \-/'.])*(?:\^\s?[23])?)$"
)


def read_plain(text: str, *, triples_are_lists: bool = False) -> Form:
    """An integer or a decimal, however its digits are grouped; None for anything else."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        if not triples_are_lists and _THOUSANDS.fullmatch(text):
            return read_plain(text.replace(",", ""), triples_are_lists=True)
        if _SPACED.fullmatch(text):
            return read_plain(text.replace(" ", ""), triples_are_lists=True)
        return None
    sign, whole, fixed = match[1] or match[4] or "", match[2] or "", match[3] or match[5] or ""
    if len(whole) + len(fixed) > 4_000:  # beyond what int() takes
        return None if fixed else Huge(sign.strip("+") + (whole.lstrip("0") or "0"))
    value = Fraction(int(whole + fixed), 10 ** len(fixed)) if fixed else Fraction(int(whole))
    return Scalar(number(-value if sign == "-" else value), decimals=len(fixed) or None)


def read_notation(text: str) -> Form:
    """A number in a base, a time, a mixed or scientific number, or one in words."""
    for pattern in (_BASED, _BASED_WORDS):
        based = pattern.fullmatch(text)
        is_letter = based is not None and pattern is _BASED and based[1].isalpha()
        if based and not is_letter:
            base = _COUNTS[based[2]] if based[2] in _COUNTS else int(based[2])
            return Based(based[1].lstrip("0").upper(), base)
    clock = _CLOCK.fullmatch(text)
    if clock:
        return Clock(int(clock[1]), int(clock[2]), (clock[3] or "").lower())
    hour = _HOUR.fullmatch(text)
    if hour:
        return Clock(int(hour[1]), 0, hour[2].lower())
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


def read_scalar(text: str) -> Form:
    """A value with or without a unit, or a text; None where it is neither."""
    text = text.strip()
    if text.casefold() in _SHORT_WORDS:
        return Words(text.casefold())
    value = read_value(squeeze(text))
    plain = read_plain(text)
    if plain is not None:
        return plain
    unit = None
    rest = text
    for money in _MONEY:
        if rest.startswith(money):
            unit, rest = read_unit(money), rest[len(money) :].strip()
        elif rest.startswith(("-" + money, "- " + money)):
            unit, rest = read_unit(money), "-" + rest.partition(money)[2].strip()
    if unit is None:
        after = _UNIT_AFTER.search(rest)
        if after and after.start():
            # A letter right after a number, as in `2k`, is a factor and no unit.
            name = after["unit"].strip()
            gap = rest[after.start() - 1] in " }" or len(name) > 1 or not name.isascii()
            name = after["unit"].lstrip("^ ")
            name = "\\circ" if name.startswith("\\circ") else name
            times, name = without_multiple(name)
            found = read_unit(name) if gap else None
            if found is not None or (gap and not name):
                inner = _read_number(rest[: after.start()].strip())
                if inner is not None and times > 1:
                    return Scalar(multiply(inner.value, number(times)), found)
                if inner is not None:
                    return Scalar(inner.value, found, inner.decimals)
    elif rest:
        inner = _read_number(rest)
        return Scalar(inner.value, unit, inner.decimals) if inner else None
    if value is not None:
        return Scalar(value)
    words = re.split(r"[\W\d_]+", text)
    if _WORDS.fullmatch(text) and any(len(w) > 3 or not w.isascii() for w in words):
        return Words(" ".join(text.casefold().replace("-", " ").split()))
    if re.fullmatch(r"\(?[A-Z]\)?", text):
        return Words(text.strip("()"))
    return None


def _read_number(text: str) -> Scalar | None:
    plain = read_plain(text)
    if plain is None:
        plain = read_notation(text)
    if isinstance(plain, Scalar):
        return plain
    value = read_value(squeeze(text))
    return None if value is None else Scalar(value)
