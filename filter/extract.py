"""Find the final answer in the text after the reasoning."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from filter.boxes import boxed_answer
from filter.formulas import PROSE, formulas
from filter.phrases import (
    Languages,
    ascii_digits,
    languages_of,
    phrases,
    with_decimal_point,
    without_copula,
)

T = TypeVar("T")

_SHORT = 300  # characters of an answer that may be nothing but the answer
_CONNECTING = re.compile(r"(?<![A-Za-z])(?:and|or|percent|pct)(?![a-z])")
# A word of four letters, since `sin` is none; in other scripts of two, or of one where they have
# no spaces.
_CJK = re.compile("[぀-ヿ一-鿿가-힣]")
_WORD = re.compile(rf"(?<![\\A-Za-z])[A-Za-z]{{4,}}|[^\W\d_A-Za-z]{{2,}}|{_CJK.pattern}")
_HENCE = re.compile(r"\b(?:therefore|thus|hence|so|final|finally)\b", re.IGNORECASE)
_JOINT = re.compile(r"\s*(?:,|;|and|or|und|oder|和|或)[\s,]*(?=\$|\\[(\[])", re.IGNORECASE)
# Of a script without spaces a word may stand right before a number.
_NUMBER = re.compile(r"(?<![^\W぀-ヿ一-鿿가-힣])(?<!\.)[-−]?\d[\d,٬]*(?:[.٫]\d+)?(?:/\d+)?%?")
_EQUATION = re.compile(r"(?:=|≈)\s*[$€£]?\s*(?=[-−]?\d)")
_ITEM = re.compile(
    r"^[ \t]*(?:[-*•][ \t]+)?(?:\d{1,3}[.)、]|\(\d{1,3}\)|[①-⑳])(?=\s|\D)", re.MULTILINE
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|[。！？।؟]|\n")
# `5x + 3` and `5 + x` begin with a number, and are none; a sentence may go on after one.
_GOES_ON = re.compile(r"(?![.!*]*(?:\s+[A-Za-z]{2,}|\s*$))")
_SENTENCE_ENDS = re.compile(r"[.!?](?=\s+[A-Z(\\$<]|[\s*]*$)|。")
_LATEX = re.compile(r"[-({\[ ]*\\[A-Za-z]")
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
    is stated, in any of the languages of `phrases.yaml`. None where there is none.

    Digits are those of ASCII, and a decimal comma is a point where a language of the text has it.
    """
    answer = after_reasoning(text)
    boxed = boxed_answer(answer)
    if boxed is None:
        return last_stated(answer)
    return _final_after_box(answer) or _number_in_ascii(boxed, answer)


def _number_in_ascii(found: str, text: str) -> str:
    """What was found, a number with a decimal comma with a point, as in the text's languages."""
    found = ascii_digits(found)
    if "," not in found or len(found) > _SHORT or not found.replace("{,}", ",")[-1:].isdigit():
        return found
    return with_decimal_point(found, languages_of(text[-_WINDOWS[1] :]))


def _final_after_box(text: str) -> str | None:
    """The formula or number that is called the final answer after the last box, as where the box
    holds a result on the way; None where there is none.
    """
    place = max(text.rfind("inal answer is"), text.rfind("inal Answer is"))
    if place < 0 or place < text.rfind("boxed"):
        return None
    said = text[place + len("inal answer is") :].lstrip(" :*")
    formula = next(formulas(said), None)
    if formula is not None and formula.start == 0:
        return formula.inner
    number = _NUMBER.match(said)
    if number is None or _GOES_ON.match(said, number.end()):
        return None
    return number.group().rstrip(",")


def last_stated(text: str) -> str | None:
    r"""The last answer that is stated without a box: after `####`, `answer is`, `Answer:`, or
    `A:` at a line's begin; else the last formula (`$…$`, `\[…\]`, `\(…\)`); else of the last
    sentence with a number the right side of its equation, or its last number, which is never that
    of a list's item. None where there is none, or where the last statement only says what the
    answer is not.
    """
    answer, denied = _explicit(text)
    if answer or denied:
        return answer
    whole = text.strip()
    if 0 < len(whole) < _SHORT and not PROSE.search(_CONNECTING.sub("", whole)):
        only = next(formulas(whole), None)
        if only and only.end - only.start == len(whole):
            return only.inner
        if not _CJK.search(whole):
            return whole
    return _last_formula_or_number(text[-_FAR:])


def explicitly_stated(text: str) -> str | None:
    """The last answer that is announced as one, as `last_stated` reads it; None: none is."""
    return _explicit(text)[0]


def said_to_be(text: str) -> str | None:
    """What stands behind the only "is" or "are" before a value, up to the end, as in "there are 7
    ways"; None where there is none, more than one, or a negation before it.
    """
    patterns = _patterns(languages_of(text))
    said = list(patterns.says.finditer(text))
    if len(said) != 1 or patterns.negates.search(text, 0, said[0].end()):
        return None
    return text[said[0].end() :]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patterns:
    """How answers are stated in some languages."""

    languages: Languages
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
def _patterns(languages: Languages) -> _Patterns:
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
    return _Patterns(
        languages=languages,
        stated=re.compile(  # in lower case, which is much faster than in any
            r"####\s*(?P<marked>[^\n]+)|^[ \t]{0,8}a:[ \t]*(?P<line>[^\n]+)"
            rf"|(?:{bare}\s{{0,3}}(?=[-−]?\d)"
            rf"|{answer}\**[^\n.:=$\\：。]{{0,40}}?(?:(?P<no>{no})|{is_}|[:=：】\]]))"
            rf"[:*\s：]*(?:{link}[:*\s]*){{0,3}}(?P<said>[^\n]+)",
            re.MULTILINE,
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


def _explicit(text: str) -> tuple[str | None, bool]:
    """The answer that is announced, and whether one is only said not to be the answer."""
    denied, words = False, None
    lower = text.replace("İ", "I").lower()  # the one letter that becomes two
    for window in _WINDOWS:
        begin = max(0, len(text) - window)
        patterns = _patterns(languages_of(lower[begin:]))
        for stated in reversed(list(patterns.stated.finditer(lower, begin))):
            said = text[slice(*stated.span(stated.lastgroup or 0))].strip(" \t*")
            number = _NUMBER.search(said)
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


def _answer_of(said: str, patterns: _Patterns) -> str | None:
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
    again = _last(patterns.stated.finditer(said.lower())) if _WORD.search(said) else None
    number = _NUMBER.match(said)
    if again and number and number.group().endswith(","):
        said = number.group()  # "12, and the result of the check is 144"
    elif again and again.start() and not again["no"]:
        return _answer_of(said[slice(*again.span(again.lastgroup or 0))].strip(" \t*"), patterns)
    if not number and not _LATEX.match(said):
        says = _last(patterns.says.finditer(said))
        if says:
            return _answer_of(said[says.end() :], patterns)
        named = _last(formulas(said))
        if named:
            return named.inner
        numbers = _NUMBER.findall(said)
        if numbers and _WORD.search(said):
            return with_decimal_point(ascii_digits(numbers[-1].rstrip(",")), patterns.languages)
    said = patterns.ends.sub("", said.strip(" \t*,，"))
    return with_decimal_point(ascii_digits(said), patterns.languages).strip() or None


def _last_formula_or_number(text: str) -> str | None:
    last = _last(formulas(text))
    if last is not None:
        hence = _HENCE.search(text, last.end)
        numbers = _NUMBER.findall(text, hence.end()) if hence else []
        return numbers[-1].rstrip(",") if numbers else _number_in_ascii(last.inner, text)
    patterns = _patterns(languages_of(text[-_WINDOWS[1] :]))
    for sentence in reversed(_SENTENCE.split(_ITEM.sub("", text))):
        numbers = _NUMBER.findall(sentence)
        denied = patterns.denies.search(sentence) if numbers else None
        if denied:
            instead = patterns.instead.search(sentence, denied.end())
            sentence = sentence[instead.end() :] if instead else ""
            numbers = _NUMBER.findall(sentence)
        if not numbers:
            continue
        equation = _last(_EQUATION.finditer(sentence))
        right = _NUMBER.match(sentence, equation.end()) if equation else None
        number = (right.group() if right else numbers[-1]).rstrip(",")
        return with_decimal_point(ascii_digits(number), patterns.languages)
    return None


def _last(items: Iterator[T]) -> T | None:
    return next(iter(deque(items, maxlen=1)), None)
