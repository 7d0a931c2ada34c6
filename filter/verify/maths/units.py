"""Units of measure: which words they are, and what they have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction


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


def _table() -> dict[str, tuple[str, Fraction]]:
    rows: list[tuple[str, str, str]] = [
        ("length", "1/1000", "mm millimeter millimetre"),
        ("length", "1/100", "cm centimeter centimetre"),
        ("length", "1/10", "dm decimeter decimetre"),
        ("length", "1", "m meter metre"),
        ("length", "1000", "km kilometer kilometre"),
        ("length", "254/10000", "inch inches"),
        ("length", "3048/10000", "ft foot feet"),
        ("length", "9144/10000", "yd yard"),
        ("length", "1609344/1000", "mi mile"),
        ("mass", "1/1000000", "mg milligram"),
        ("mass", "1/1000", "g gram gramme"),
        ("mass", "1", "kg kilogram"),
        ("mass", "1000", "tonne"),
        ("mass", "45359237/100000000", "lb pound"),
        ("mass", "45359237/1600000000", "oz ounce"),
        ("time", "1/1000", "ms millisecond"),
        ("time", "1", "s sec second"),
        ("time", "60", "min minute"),
        ("time", "3600", "h hr hour"),
        ("time", "86400", "day"),
        ("time", "604800", "week"),
        ("months", "1", "month"),
        ("months", "12", "year yr"),
        ("volume", "1/1000", "ml mL milliliter millilitre"),
        ("volume", "1", "L liter litre"),
        ("money", "1", "usd dollar"),
        ("money", "1/100", "cent"),
        ("euros", "1", "euro eur"),
        ("sterling", "1", "sterling gbp"),
        ("angle", "1", "\\circ degree deg"),
        ("radian", "1", "rad radian"),
        ("speed", "1", "mph"),
        ("speed of km", "1", "kph km/h kmh"),
        ("newton", "1", "N newton"),
        ("joule", "1", "J joule"),
        ("watt", "1", "W watt"),
        ("volt", "1", "V volt"),
        ("hertz", "1", "Hz hertz"),
        ("kelvin", "1", "K kelvin"),
        ("unit", "1", "unit"),
    ]
    return {
        word: (dimension, Fraction(size)) for dimension, size, words in rows
        for word in words.split()
    }  # fmt: skip


_UNITS = _table()
_POWERS = {"square": 2, "sq": 2, "cubic": 3}
_PARTS = re.compile(
    r"^(?:(square|sq\.?|cubic) )?(.+?)\.?(?:\s?\^\s?\{?([23])\}?)?(?: (squared|cubed))?$"
)


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
        return Unit(found[0], found[1] ** power, power, sure=len(name) > 1)
    if not re.fullmatch(r"[A-Za-z][A-Za-z \-/']*", name) or len(name) < 3:
        return None
    return Unit(_stem(name), power=power)


def _known(name: str) -> tuple[str, Fraction] | None:
    for candidate in (name, name.removesuffix("s"), name.lower(), name.lower().removesuffix("s")):
        if candidate in _UNITS and (len(name) > 1 or candidate == name):
            return _UNITS[candidate]
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
    if _is_listed(a) or _is_listed(b):
        # `18 dollars per day`: the listed word begins the phrase
        phrase, listed = (a, b) if _is_listed(b) else (b, a)
        known = _known(phrase.dimension.split()[0]) if not _is_listed(phrase) else None
        return known is not None and known == (listed.dimension, listed.size)
    return bool(set(a.dimension.split()) & set(b.dimension.split()))


def _is_listed(unit: Unit) -> bool:
    return any(unit.dimension == dimension for dimension, _ in _UNITS.values())
