"""Units of measure: which words they are, and what they have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: its dimension, its size in that dimension's base unit, and its power.

    A word that is in no table has itself as its dimension. `sure` is False for a single letter,
    which may be a variable.
    """

    dimension: str
    size: Fraction = Fraction(1)
    power: int = 1
    sure: bool = True


_TABLE = Path(__file__).with_name("units.yaml")


@cache
def _units() -> dict[str, tuple[str, Fraction]]:
    """The dimension and the size of each word in `units.yaml`."""
    import yaml

    table: dict[str, dict[str | int, str]] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return {
        word: (dimension, Fraction(size))
        for dimension, sizes in table.items()
        for size, words in sizes.items()
        for word in words.split()
    }


_POWERS = {"square": 2, "sq": 2, "cubic": 3, "平方": 2, "立方": 3}
# A letter of any script; the vowel signs of some are no letters to `re`.
LETTER = r"[^\W\d_]"
LETTERS = r"(?:[^\W\d_]|[\u0300-\u036f\u0900-\u0965\u0980-\u0dff\u0e31-\u0e4e])"
_NAME = re.compile(rf"{LETTER}(?:{LETTERS}|[ \-/'])*")
_PARTS = re.compile(
    r"^(?:(square|sq\.?|cubic|平方|立方)(?: |(?<=方)))?(.+?)\.?(?:\s?\^\s?\{?([23])\}?)?"
    r"(?: (squared|cubed))?$"
)


def without_multiple(name: str) -> tuple[int, str]:
    """The number that a name begins with as a word, else 1, and what it counts: `million people`
    is 1,000,000 people, `万元` 10,000 yuan.
    """
    first, _, rest = name.partition(" ")
    if not name.isascii() and _known(name) is None:
        first, rest = name[:1], name[1:]
        if len(rest) > 1 and _known(rest) is None:
            return 1, name
    found = _known(first)
    if found is None or found[0] != "number":
        return 1, name
    return int(found[1]), rest.strip()


def read_unit(text: str) -> Unit | None:
    """The unit that a text without numbers names; None where it can't be one."""
    text = text.strip()
    if not text or len(text) > 60:
        return None
    match = _PARTS.match(text)
    if match is None:
        return None
    before, name, exponent, after = match.groups()
    power = int(exponent) if exponent else 2 if after == "squared" else 3 if after else 1
    if before:
        power = _POWERS[before.rstrip(".")]
    name = name.lstrip("\\") if name != "\\circ" else name
    found = _known(name)
    if found is not None:
        if found[0] in ("number", "no unit"):
            return None
        return Unit(found[0], found[1] ** power, power, sure=len(name) > 1)
    if not _NAME.fullmatch(name) or (name.isascii() and len(name) < 3):
        return None
    if any((_known(word) or ("",))[0] in ("number", "no unit") for word in name.split()):
        return None
    return Unit(_stem(name), power=power)


def _known(name: str) -> tuple[str, Fraction] | None:
    units = _units()
    for word in (name, name.lower()):
        for candidate in (word, *(word.removesuffix(end) for end in ("s", "es", "en"))):
            if candidate in units and (len(name) > 1 or candidate == name):
                return units[candidate]
    return None


def _stem(name: str) -> str:
    return " ".join(word.lower().removesuffix("s") for word in name.split())


def same_dimension(a: Unit, b: Unit) -> bool:
    """Whether amounts in the two units can be compared. Of words that no table knows one may say
    more than the other: `apples`, `red apples`.
    """
    if a.power != b.power:
        return False
    if a.dimension == b.dimension:
        return True
    if is_listed(a) or is_listed(b):
        # `18 dollars per day`: the listed word begins the phrase
        phrase, listed = (a, b) if is_listed(b) else (b, a)
        known = _known(phrase.dimension.split()[0]) if not is_listed(phrase) else None
        return known is not None and known == (listed.dimension, listed.size)
    if a.dimension.isascii() != b.dimension.isascii():
        return True  # words of two scripts contradict nothing: one may translate the other
    return bool(set(a.dimension.split()) & set(b.dimension.split()))


def is_listed(unit: Unit) -> bool:
    """Whether a unit is one of the table's."""
    return any(unit.dimension == dimension for dimension, _ in _units().values())
