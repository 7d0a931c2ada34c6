"""Find the formulas in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# Each alternative begins with what it is, and only then looks back: so the search is fast.
_OPENS = re.compile(
    r"\$\$([^$]+)\$\$|\$(?<!\\\$)(?<!\$\$)((?:[^$\n\\]|\\.)*[^$\\])\$(?!\d)|\\[\[(]"
)
# "$5 and $6" holds no formula: words (of Devanagari with vowel signs, which are no letters), and
# nothing that only LaTeX has.
PROSE = re.compile(r"(?<![^\W\d_])(?<![\\{])(?:[^\W\d_]|[ऀ-ॣ]){2,}")
_LATEX = re.compile(r"[\\^_=]")


class Formula(NamedTuple):
    """Where a formula with its delimiters stands in a text, and what it is without them."""

    start: int
    end: int
    inner: str


def formulas(text: str) -> Iterator[Formula]:
    r"""The formulas in `$…$`, `$$…$$`, `\[…\]` and `\(…\)`; in time linear in the text, since a
    bracket that closes nowhere is looked for once.
    """
    place, missing = 0, set[str]()
    while match := _OPENS.search(text, place):
        place = match.end()
        if match.lastindex:
            inner = match[match.lastindex]
            if inner.strip() and (
                _LATEX.search(inner) or " " not in inner or not PROSE.search(inner)
            ):
                yield Formula(match.start(), place, inner.strip())
            else:
                place = match.start() + 1  # its second dollar may open one
            continue
        closes = "\\]" if match.group() == "\\[" else "\\)"
        end = -1 if closes in missing else text.find(closes, place)
        if end < 0:
            missing.add(closes)
        else:
            inner = text[place:end].strip()
            if inner:
                yield Formula(match.start(), end + 2, inner)
            place = end + 2
