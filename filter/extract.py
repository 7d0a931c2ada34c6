"""Find the final answer in the text after the reasoning."""

from __future__ import annotations

import re
from collections.abc import Iterator

from filter.boxes import boxed_answer
from filter.formulas import PROSE, formulas
from filter.phrases import ascii_digits, languages_of, with_decimal_point
from filter.statements import CJK, FAR, NUMBER, SHORT, WINDOWS, announced, last_of, patterns_of

_CONNECTING = re.compile(r"(?<![A-Za-z])(?:and|or|percent|pct)(?![a-z])")
_HENCE = re.compile(r"\b(?:therefore|thus|hence|so|final|finally)\b", re.IGNORECASE)
_EQUATION = re.compile(r"(?:=|≈)\s*[$€£]?\s*(?=[-−]?\d)")
_ITEM = re.compile(
    r"^[ \t]*(?:[-*•][ \t]+)?(?:\d{1,3}[.)、]|\(\d{1,3}\)|[①-⑳])(?=\s|\D)", re.MULTILINE
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|[。！？।؟]|\n")
# `5x + 3` and `5 + x` begin with a number, and are none; a sentence may go on after one.
_GOES_ON = re.compile(r"(?![.!*]*(?:\s+[A-Za-z]{2,}|\s*$))")


def after_reasoning(text: str) -> str:
    """What stands after the last `</think>`. Of a reasoning that never ends, what precedes it:
    what is only reasoned is no answer.
    """
    if "<" not in text:  # one character is found in a tenth of the time of a tag
        return text
    end = text.rfind("</think>")
    if end >= 0:
        return text[end + 8 :]
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
    if "," not in found or len(found) > SHORT or not found.replace("{,}", ",")[-1:].isdigit():
        return found
    return with_decimal_point(found, languages_of(text[-WINDOWS[1] :]))


def _final_after_box(text: str) -> str | None:
    """The formula or number that is called the final answer after the last box, as where the box
    holds a result on the way; None where there is none.
    """
    box = max(0, text.rfind("boxed"))
    place = max(text.rfind("inal answer is", box), text.rfind("inal Answer is", box))
    if place < 0:
        return None
    said = text[place + len("inal answer is") :].lstrip(" :*")
    formula = next(formulas(said), None)
    if formula is not None and formula.start == 0:
        return formula.inner
    number = NUMBER.match(said)
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
    answer, denied = announced(text)
    if answer or denied:
        return answer
    whole = text.strip()
    if 0 < len(whole) < SHORT and not PROSE.search(_CONNECTING.sub("", whole)):
        only = next(formulas(whole), None)
        if only and only.end - only.start == len(whole):
            return only.inner
        if not CJK.search(whole):
            return whole
    return _last_formula_or_number(text[-FAR:])


def _last_formula_or_number(text: str) -> str | None:
    last = last_of(formulas(text))
    if last is not None:
        hence = _HENCE.search(text, last.end)
        numbers = NUMBER.findall(text, hence.end()) if hence else []
        return numbers[-1].rstrip(",") if numbers else _number_in_ascii(last.inner, text)
    patterns = patterns_of(languages_of(text[-WINDOWS[1] :]))
    for sentence in _sentences_backwards(text):
        numbers = NUMBER.findall(sentence)
        denied = patterns.denies.search(sentence) if numbers else None
        if denied:
            instead = patterns.instead.search(sentence, denied.end())
            sentence = sentence[instead.end() :] if instead else ""
            numbers = NUMBER.findall(sentence)
        if not numbers:
            continue
        equation = last_of(_EQUATION.finditer(sentence))
        right = NUMBER.match(sentence, equation.end()) if equation else None
        number = (right.group() if right else numbers[-1]).rstrip(",")
        return with_decimal_point(ascii_digits(number), patterns.languages)
    return None


def _sentences_backwards(text: str) -> Iterator[str]:
    """The sentences from the last on, without the numbers of a list's items."""
    *lines, last = text.split("\n")
    yield from reversed(_SENTENCE.split(_ITEM.sub("", last)))
    for line in reversed(lines):
        yield from reversed(_SENTENCE.split(_ITEM.sub("", f"{line}\n")))
