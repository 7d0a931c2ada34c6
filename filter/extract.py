"""Find the final answer in the text after the reasoning."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from filter.boxes import boxed_answer

T = TypeVar("T")

_LABELLED = r"####\s*(?P<marked>[^\n]+)|^[ \t]{0,8}A:[ \t]*(?P<line>[^\n]+)"
_STATED = re.compile(
    _LABELLED + r"|(?:\banswers?\b|\bresult\b|\bantwort\b|\bergebnis\b|答案)\**[^\n.:=$\\：]{0,40}?"
    r"(?:\bis\b|\bare\b|\bequals\b|\bbe\b|\bist\b|\blautet\b|[:=：是为為])[:*\s：]*(?P<said>[^\n]+)",
    re.IGNORECASE | re.MULTILINE,
)
# Where none of the words is there, which a search for them tells much faster than the pattern.
_WORDS = ("answer", "result", "antwort", "ergebnis", "答案")
_STATED_WITHOUT_WORDS = re.compile(_LABELLED + "|(?P<said>(?!))", re.IGNORECASE | re.MULTILINE)
_NEGATED = re.compile(r"\s*(?:not\b|never\b|nicht\b|kein|不)", re.IGNORECASE)
_INSTEAD = re.compile(r"\b(?:but|rather|sondern|it is|it's)\b(?:\s+(?:is|rather))?", re.IGNORECASE)
_OPENS = re.compile(r"\$\$([^$]+)\$\$|(?<![\\$])\$([^$\n]*[^$\\])\$(?!\d)|\\[\[(]")
# "$5 and $6" holds no formula: words, and nothing that only LaTeX has.
_PROSE = re.compile(r"(?<![A-Za-z\\{])[A-Za-z]{2,}")
_LATEX = re.compile(r"[\\^_=]")
_SHORT = 300  # characters of an answer that may be nothing but the answer
_CONNECTING = re.compile(r"(?<![A-Za-z])(?:and|or|percent|pct)(?![a-z])")
_IS = re.compile(r"\b(?:is|are|was|be|equals|ist|lautet)\b\**:?\s+(?=[-\d$\\.(\[{])", re.IGNORECASE)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_HENCE = re.compile(r"\b(?:therefore|thus|hence|so|final|finally)\b", re.IGNORECASE)
_JOINT = re.compile(r"\s*(?:,|;|and|or|und|oder|和|或)[\s,]*(?=\$|\\[(\[])", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")
# `5x + 3` and `5 + x` begin with a number, and are none; a sentence may go on after one.
_GOES_ON = re.compile(r"(?![.!*]*(?:\s+[A-Za-z]{2,}|\s*$))")
_SENTENCE_ENDS = re.compile(r"[.!?](?=\s+[A-Z(\\$<]|[\s*]*$)|。")
_ASIDE = re.compile(
    r",?\s+\(?(?:because|since|which|where|as|so|when|weil|denn|da)\b", re.IGNORECASE
)

_FAR = 100_000  # characters from the end in which an answer without a box is looked for
_WINDOWS = (300, 3_000, _FAR)  # the last statement stands near the end, mostly


def after_reasoning(text: str) -> str:
    """What stands after the last `</think>`. Of a reasoning that never ends, what precedes it:
    what is only reasoned is no answer.
    """
    end = text.rfind("</think>")
    if end >= 0:
        return text[end + 8 :]
    # `rfind` alone is several times as fast as `find` and `in` in a long text without it
    return text if text.rfind("<think>") < 0 else text[: text.find("<think>")]


def final_answer(text: str) -> str | None:
    r"""The answer in a completion: of what follows the reasoning the last balanced `\boxed{…}`,
    unless the text calls another its final answer thereafter; without a box the last answer that
    is stated. None where there is none.
    """
    answer = after_reasoning(text)
    boxed = boxed_answer(answer)
    return last_stated(answer) if boxed is None else _final_after_box(answer) or boxed


def _final_after_box(text: str) -> str | None:
    """The formula or number that is called the final answer after the last box, as where the box
    holds a result on the way; None where there is none.
    """
    place = max(text.rfind("inal answer is"), text.rfind("inal Answer is"))
    if place < 0 or place < text.rfind("boxed"):
        return None
    said = text[place + len("inal answer is") :].lstrip(" :*")
    formula = next(_formulas(said), None)
    if formula is not None and formula.start == 0:
        return formula.inner
    number = _NUMBER.match(said)
    if number is None or _GOES_ON.match(said, number.end()):
        return None
    return number.group().rstrip(",")


def last_stated(text: str) -> str | None:
    r"""The last answer that is stated without a box: after `####`, `answer is`, `Answer:`, or
    `A:` at a line's begin; else the last formula (`$…$`, `\[…\]`, `\(…\)`); else the last number.
    None where there is none, or where the last statement only says what the answer is not.
    """
    answer, denied = _explicit(text)
    if answer or denied:
        return answer
    whole = text.strip()
    if 0 < len(whole) < _SHORT and not _PROSE.search(_CONNECTING.sub("", whole)):
        only = next(_formulas(whole), None)
        return only.inner if only and only.end - only.start == len(whole) else whole
    return _last_formula_or_number(text[-_FAR:])


def explicitly_stated(text: str) -> str | None:
    """The last answer that is announced as one, as `last_stated` reads it; None: none is."""
    return _explicit(text)[0]


def _explicit(text: str) -> tuple[str | None, bool]:
    """The answer that is announced, and whether one is only said not to be the answer."""
    denied = False
    statements: list[re.Match[str]] = []
    for window in _WINDOWS:
        begin = max(0, len(text) - window)
        lowered = text[begin:].lower()
        worded = any(word in lowered for word in _WORDS)
        pattern = _STATED if worded else _STATED_WITHOUT_WORDS
        statements = list(pattern.finditer(text, begin))
        if statements or window >= len(text):
            break
    for stated in reversed(statements):
        said = (stated["marked"] or stated["line"] or stated["said"]).strip(" \t*")
        if _NEGATED.match(said):
            instead = _INSTEAD.search(said)
            if instead is None:
                denied = True
                continue
            said = said[instead.end() :].strip()
        answer = _answer_of(said)
        if answer:
            return answer, False
    return None, denied


def _answer_of(said: str) -> str | None:
    begin = end = 0
    first = None
    for formula in _formulas(said):
        if formula.start != begin:
            break
        first, end = first or formula, formula.end
        joint = _JOINT.match(said, end)
        if joint is None:
            break
        begin = joint.end()
    if first:
        return first.inner if end == first.end else said[:end]
    ends = _SENTENCE_ENDS.search(said)
    if ends:
        said = said[: ends.start()]
    aside = _ASIDE.search(said)
    if aside and aside.start():
        said = said[: aside.start()]
    if not _NUMBER.match(said):
        says = _last(_IS.finditer(said))
        if says:
            return _answer_of(said[says.end() :])
        named = _last(_formulas(said))
        if named:
            return named.inner
        numbers = _NUMBER.findall(said)
        if numbers and _WORD.search(said):
            return str(numbers[-1]).rstrip(",")
    return said.strip(" \t*,") or None


def _last_formula_or_number(text: str) -> str | None:
    last = _last(_formulas(text))
    if last is not None:
        hence = _HENCE.search(text, last.end)
        numbers = _NUMBER.findall(text, hence.end()) if hence else []
        return numbers[-1].rstrip(",") if numbers else last.inner
    numbers = _NUMBER.findall(text)
    return numbers[-1].rstrip(",") if numbers else None


def _last(items: Iterator[T]) -> T | None:
    return next(iter(deque(items, maxlen=1)), None)


class _Formula(NamedTuple):
    start: int
    end: int
    inner: str


def _formulas(text: str) -> Iterator[_Formula]:
    r"""The formulas in `$…$`, `$$…$$`, `\[…\]` and `\(…\)`; in time linear in the text, since a
    bracket that closes nowhere is looked for once.
    """
    place, missing = 0, set[str]()
    while match := _OPENS.search(text, place):
        place = match.end()
        if match.lastindex:
            inner = match[match.lastindex]
            if inner.strip() and (
                _LATEX.search(inner) or " " not in inner or not _PROSE.search(inner)
            ):
                yield _Formula(match.start(), place, inner.strip())
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
                yield _Formula(match.start(), end + 2, inner)
            place = end + 2
