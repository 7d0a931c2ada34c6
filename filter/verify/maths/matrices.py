r"""Read matrices and determinants: rows between `\\`, `\\[4pt]` or `\cr`, in any environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from filter.verify.maths.algebra import Ratio, add, multiply, negate, number
from filter.verify.maths.forms import Form, Matrix, Scalar
from filter.verify.maths.reading import read_value

_MATRIX = re.compile(
    r"(?P<before>[^\[(|]*?)(?P<opens>[\[(|]?)\s*"
    r"\\begin\{(?P<kind>(?:small)?[pbvBV]?matrix|array)\}(?:\s?\{[lcr| ]*\})?(?P<rows>.*)"
    r"\\end\{(?P=kind)\}\s*(?P<closes>[\])|]?)(?P<turned>\s?\^\s?\{?\s?(?:T|\\top|\\intercal)\s?\}?)?",
    re.DOTALL,
)
_ROW_ENDS = re.compile(r"\\\\(?:\s?\[[^\[\]]*\])?|\\(?:cr|tabularnewline)(?![a-zA-Z])")
_RULES = re.compile(r"\\hline|\\noalign\{[^{}]*\}")
_MAX_ROWS = 20
_MAX_DETERMINANT = 5


def read_matrix(text: str, read_entry: Callable[[str], Form]) -> Form:
    r"""The matrix that a cleaned text shows, times a number before it, or the value of a
    determinant (`vmatrix`, bars, `\det`); None where it shows none.
    """
    match = _MATRIX.fullmatch(text)
    if match is None or "\\begin" in match["rows"]:
        return None
    rows = [row for row in _ROW_ENDS.split(_RULES.sub("", match["rows"])) if row.strip()]
    if len(rows) > _MAX_ROWS or (match["opens"] == "|") != (match["closes"] == "|"):
        return None
    entries = tuple(tuple(read_entry(cell) for cell in row.split("&")) for row in rows)
    if match["turned"]:
        entries = tuple(zip(*entries, strict=False))
    before = match["before"].strip().removesuffix("\\cdot").strip()
    of_rows = before.endswith("\\det") or match["opens"] == "|" or match["kind"] == "vmatrix"
    before = before.removesuffix("\\det").strip()
    factor = {"": number(1), "-": number(-1)}.get(before) or read_value(before)
    if factor is None:
        return None
    if not of_rows and not before:
        return Matrix(entries)
    values = _values(entries)
    if values is None:
        return None
    if not of_rows:
        return Matrix(tuple(tuple(Scalar(multiply(factor, v)) for v in row) for row in values))
    if len(values) > _MAX_DETERMINANT or any(len(row) != len(values) for row in values):
        return None
    return Scalar(multiply(factor, _determinant(values)))


def _values(entries: Sequence[Sequence[Form]]) -> list[list[Ratio]] | None:
    if not all(isinstance(entry, Scalar) for row in entries for entry in row):
        return None
    return [[entry.value for entry in row if isinstance(entry, Scalar)] for row in entries]


def _determinant(rows: list[list[Ratio]]) -> Ratio:
    if not rows:
        return number(1)
    total = number(0)
    for place, entry in enumerate(rows[0]):
        rest = _determinant([row[:place] + row[place + 1 :] for row in rows[1:]])
        term = multiply(entry, rest)
        total = add(total, negate(term) if place % 2 else term)
    return total
