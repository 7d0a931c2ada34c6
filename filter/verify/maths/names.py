r"""Tell words, names of points and compositions from products of variables.

To an exact reader `ABC` is A·B·C, and so is `CBA`. What is a name is compared as it is spelt:
a run of upper-case letters (`ABC`, `HTH`), what stands in `\text` or `\mathrm` alone
(`\text{dog}`), three small letters that are spelt like a word rather than in alphabetical order
(`was`), an angle, a triangle, a segment, an arrow and a composition `f \circ g`.
"""

from __future__ import annotations

import re

from filter.verify.maths.forms import Words

_UPPER = re.compile(r"[A-Z]{2,3}")
_SMALL = re.compile(r"[a-z]{3}")
_LETTERS = re.compile(r"[A-Za-z]{2,}")
_TEXT = re.compile(
    r"[\s$]*(?:\\(?:text|textbf|textit|textrm|textsf|texttt|mathrm|mathsf|mbox|hbox|operatorname)"
    r"\s*\{\s*([^\W\d_]+)\s*\}|[\"'\u201c]([^\W\d_]+)[\"'\u201d])[\s.$]*"
)
_POINTS = re.compile(
    r"(?P<mark>segment|m? ?\\(?:angle|measuredangle)|\\triangle|\\Delta|\\bar|\\widehat"
    r"|\\overleftrightarrow|\\overrightarrow|\\vec|\\overset\{\\frown\})\s?\{?\s?(?P<points>[A-Z](?:\s?[A-Z]){1,2})\s?\}?"
)
# Products of matrices, which a transpose tells, do not commute.
_TRANSPOSED = re.compile(r"(?=.*\^\{?T)(?:[A-Z](?:\^\{?(?:T|-1)\}?)? ?){2,}")
_ARROWS = ("\\overrightarrow", "\\vec")
_COMPOSED = re.compile(r"\(?\s?([a-zA-Z]) ?\\circ ?([a-zA-Z])\s?\)?(\s?\([a-z]\))?")


def is_text(raw: str) -> bool:
    r"""Whether all of an answer, as it was written, is one word in `\text{…}` or in quotes."""
    return _TEXT.fullmatch(raw) is not None


def is_spelt(cleaned: str) -> bool:
    """Whether three small letters are a word by their look: with a vowel, and in no alphabetical
    order, as products of variables are written.
    """
    vowels = set(cleaned) & set("aeiou")
    return bool(_SMALL.fullmatch(cleaned) and vowels) and list(cleaned) != sorted(cleaned)


def read_name(text: str, *, is_word: bool = False) -> Words | None:
    """The name that a cleaned text is; None where it is none. `is_word` says that letters are a
    word, of whatever look.
    """
    if _UPPER.fullmatch(text) and text.casefold() not in ("yes", "no", "odd"):
        return Words(text)
    if is_word and _LETTERS.fullmatch(text):
        return Words(text if _UPPER.fullmatch(text) else text.casefold())
    if _TRANSPOSED.fullmatch(text):
        return Words(re.sub(r"[{} ]", "", text))
    points = _POINTS.fullmatch(text)
    if points:
        return _read_points(points["mark"].lstrip("m "), points["points"].replace(" ", ""))
    composed = _COMPOSED.fullmatch(text)
    if composed and not composed[3]:
        return Words(f"{composed[1]} of {composed[2]}")
    return None


def applied(text: str) -> str:
    r"""`(f \circ g)(x)` as `f(g(x))`; any other text as it is."""
    composed = _COMPOSED.fullmatch(text)
    if composed is None or not composed[3]:
        return text
    return f"{composed[1]}({composed[2]}{composed[3].strip()})"


def _read_points(mark: str, points: str) -> Words:
    """An angle is the same from its other arm, a triangle from each corner, a segment from its
    other end; an arrow is not.
    """
    if mark in _ARROWS:
        return Words(f"\\vec {points}")
    if mark in ("\\triangle", "\\Delta"):
        return Words("\\triangle " + "".join(sorted(points)))
    either = min(points, points[::-1])
    if mark in ("\\angle", "\\measuredangle"):
        return Words(f"\\angle {either}")
    return Words(either)
