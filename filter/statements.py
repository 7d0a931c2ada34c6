"""Find the answer that a text announces: "the answer is 12", in the languages of `phrases.yaml`."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from filter.formulas import formulas
from filter.phrases import (
    Languages,
    ascii_digits,
    languages_of,
    openings,
    phrases,
    with_decimal_point,
    without_copula,
)

T = TypeVar("T")

SHORT = 300  # characters of an answer that may be nothing but the answer
# A word of four letters, since `sin` is none; in other scripts of two, or of one where they have
# no spaces.
CJK = re.compile("[぀-ヿ一-鿿가-힣]")
_WORD = re.compile(rf"(?<![\\A-Za-z])[A-Za-z]{{4,}}|[^\W\d_A-Za-z]{{2,}}|{CJK.pattern}")
_JOINT = re.compile(r"\s*(?:,|;|and|or|und|oder|和|或)[\s,]*(?=\$|\\[(\[])", re.IGNORECASE)
# Of a script without spaces a word may stand right before a number.
NUMBER = re.compile(r"(?<![^\W぀-ヿ一-鿿가-힣])(?<!\.)[-−]?\d[\d,٬]*(?:[.٫]\d+)?(?:/\d+)?%?")
# A last line that marks a number as the answer, which no language reads in another way.
_MARKED = re.compile(
    r"\n[ \t]{0,8}(?:####|[Aa]:)[ \t]*(-?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?)\s*$", re.ASCII
)
_SENTENCE_ENDS = re.compile(r"[.!?](?=\s+[A-Z(\\$<]|[\s*]*$)|。")
_LATEX = re.compile(r"[-({\[ ]*\\[A-Za-z]")
FAR = 100_000  # characters from the end in which an answer without a box is looked for
WINDOWS = (300, 3_000, FAR)  # the last statement stands near the end, mostly


def explicitly_stated(text: str) -> str | None:
    """The last answer that is announced as one, or None."""
    return announced(text)[0]


def said_to_be(text: str) -> str | None:
    """What stands behind the only "is" or "are" before a value, up to the end, as in "there are 7
    ways"; None where there is none, more than one, or a negation before it.
    """
    patterns = patterns_of(languages_of(text))
    said = list(patterns.says.finditer(text))
    if len(said) != 1 or patterns.negates.search(text, 0, said[0].end()):
        return None
    return text[said[0].end() :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """How answers are stated in some languages."""

    languages: Languages
    opens: re.Pattern[str]  # where a statement may begin: all literals, so that it is found fast
    stated: re.Pattern[str]
    negated: re.Pattern[str]
    denied: re.Pattern[str]  # after a number
    denies: re.Pattern[str]  # a number that is no answer
    instead: re.Pattern[str]
    says: re.Pattern[str]  # "is" before a value
    negates: re.Pattern[str]  # what follows
    praises: re.Pattern[str]  # "correct", as "the solution is correct" says
    filler: re.Pattern[str]
    aside: re.Pattern[str]
    ends: re.Pattern[str]  # after a value, at the end


@lru_cache(maxsize=512)
def patterns_of(languages: Languages) -> Patterns:
    """How answers are stated in these languages."""

    def compiled(pattern: str) -> re.Pattern[str]:
        return re.compile(pattern, re.IGNORECASE | re.MULTILINE)

    answer, is_, no = (phrases(slot, languages) for slot in ("answer", "is", "not"))
    link, negation = phrases("link", languages), phrases("negation", languages)
    and_ = phrases("and", languages)
    because, but = phrases("because", languages), phrases("but", languages)
    after, denies = (phrases(slot, languages, whole=False) for slot in ("after", "denies"))
    right, wrong = phrases("right", languages), phrases("wrong", languages)
    bare = phrases("answer", without_copula(languages))
    bare_wrong = phrases("wrong", without_copula(languages))
    return Patterns(
        languages=languages,
        opens=re.compile(rf"####|\n[ \t]{{0,8}}a:|{openings('answer', languages)}"),
        stated=re.compile(  # in lower case, which is much faster than in any
            r"####\s*(?P<marked>[^\n]+)|\n[ \t]{0,8}a:[ \t]*(?P<line>[^\n]+)"
            rf"|(?:{bare}\s{{0,3}}(?=[-−]?\d)"
            rf"|{answer}\**[^\n.:=$\\：。]{{0,40}}?(?:(?P<no>{no})|{is_}|[:=：】\]]))"
            rf"[:*\s：]*(?:{link}[:*\s]*){{0,3}}(?P<said>[^\n]+)"
        ),
        negated=compiled(rf"\s*(?:{negation}|never\b)"),
        denied=compiled(rf"[^\n.,。、，]{{0,12}}?{denies}"),
        denies=compiled(
            rf"(?:{no}|{negation})\s{{0,3}}[-−$(]{{0,2}}\d|\d\W{{0,3}}(?:{is_}\s{{1,3}}{wrong}"
            rf"|{no}\s{{1,3}}{right}|{bare_wrong}|{denies})"
        ),
        instead=compiled(rf"(?:{but}|\bwhich\s+is)(?:\s+(?:{is_}|rather))?"),
        says=compiled(rf"{is_}\**:?\s*(?=[-\d$\\.(\[{{])"),
        negates=compiled(rf"{no}|{negation}"),
        praises=compiled(rf"{right}|{wrong}"),
        filler=compiled(rf"(?:{link}[\s*]*)+(?=[-−\d$\\])"),
        aside=compiled(
            rf",?\s+\(?(?:{because}|which|where|so|when)\b|[，、]?{because}"
            rf"|[,;，、]?\s{{0,3}}(?:{and_}\s{{0,3}}|{but}\s{{0,3}})?(?:{negation}|{no})"
            rf"|[^\W\d]{{0,3}}[、，,\s]\s?[^\s、，,]{{1,10}}\s?{denies}"
        ),
        ends=compiled(rf"\**\s?(?:{after})\W*$"),
    )


def announced(text: str) -> tuple[str | None, bool]:
    """The answer that is announced, and whether one is only said not to be the answer."""
    marked = _MARKED.search(text, max(0, len(text) - SHORT))
    if marked:
        return marked[1], False
    denied, words = False, None
    for window in WINDOWS:
        # with the character before it, which tells where a line and a word begin
        shown = text[-window - 1 :] if window < len(text) else f"\n{text}"
        lower = shown.replace("İ", "I").lower()  # the one letter that becomes two
        patterns = patterns_of(languages_of(lower))
        for stated in reversed(list(_statements(lower, patterns))):
            said = shown[slice(*stated.span(stated.lastgroup or 0))].strip(" \t*")
            number = NUMBER.search(said)
            if (
                stated["no"]
                or patterns.negated.match(said)
                or (number and patterns.denied.match(said, number.end()))
            ):
                instead = patterns.instead.search(said)
                if instead is None:
                    denied = True
                    continue
                said = said[instead.end() :].strip()
            answer = _answer_of(said, patterns)
            if answer and (_has_value(answer) or not patterns.praises.match(answer)):
                return answer, False
            words = words or answer
        if denied or window >= len(text):
            break
    return words, denied and not words


def _has_value(text: str) -> bool:
    return any(char.isdigit() or char in "$\\" for char in text)


def _statements(lower: str, patterns: Patterns) -> Iterator[re.Match[str]]:
    place = 0
    while opens := patterns.opens.search(lower, place):
        stated = patterns.stated.match(lower, opens.start())
        place = stated.end() if stated else opens.start() + 1
        if stated:
            yield stated


def _answer_of(said: str, patterns: Patterns) -> str | None:
    begin = end = 0
    first = None
    filler = patterns.filler.match(said)
    said = said[filler.end() :] if filler else said
    for formula in formulas(said):
        if formula.start != begin:
            break
        first, end = first or formula, formula.end
        joint = _JOINT.match(said, end)
        if joint is None:
            break
        begin = joint.end()
    if first:
        if end == first.end:
            return with_decimal_point(first.inner, patterns.languages)
        return said[:end]
    ends = _SENTENCE_ENDS.search(said)
    if ends:
        said = said[: ends.start()]
    aside = patterns.aside.search(said)
    if aside and aside.start():
        kept = said[: aside.start()]
        if _has_value(kept) or kept.count(" ") < 2 or not _has_value(said):
            said = kept
    again = last_of(patterns.stated.finditer(said.lower())) if _WORD.search(said) else None
    number = NUMBER.match(said)
    if again and number and number.group().endswith(","):
        said = number.group()  # "12, and the result of the check is 144"
    elif again and again.start() and not again["no"]:
        return _answer_of(said[slice(*again.span(again.lastgroup or 0))].strip(" \t*"), patterns)
    if not number and not _LATEX.match(said):
        says = last_of(patterns.says.finditer(said))
        if says:
            return _answer_of(said[says.end() :], patterns)
        named = last_of(formulas(said))
        if named:
            return named.inner
        numbers = NUMBER.findall(said)
        if numbers and _WORD.search(said):
            return with_decimal_point(ascii_digits(numbers[-1].rstrip(",")), patterns.languages)
    said = patterns.ends.sub("", said.strip(" \t*,，"))
    return with_decimal_point(ascii_digits(said), patterns.languages).strip() or None


def last_of(items: Iterator[T]) -> T | None:
    """The last of the items; None where there are none."""
    return next(iter(deque(items, maxlen=1)), None)
