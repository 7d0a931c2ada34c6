"""What shapes an answer has: a value, a list, an interval, an equation, a text."""

from __future__ import annotations

from dataclasses import dataclass

from filter.verify.maths.algebra import Ratio, add, negate
from filter.verify.maths.units import Unit


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


@dataclass(frozen=True, slots=True)
class Proportion:
    """A ratio of three terms or more."""

    terms: tuple[Form, ...]


Form = (
    Scalar | Based | Clock | Words | Nothing | Group | Union | Matrix | Equation | Huge | Proportion
    | None
)  # fmt: skip
"""None: not understood."""


def difference(a: Ratio, b: Ratio) -> Ratio:
    """The difference a - b."""
    return add(a, negate(b))
