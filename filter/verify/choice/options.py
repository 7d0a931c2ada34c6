"""Find a multiple-choice problem's options, and read text as they are written."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from filter.phrases import ascii_digits
from filter.verify.maths.compare import same
from filter.verify.maths.forms import Scalar
from filter.verify.maths.normalise import clean
from filter.verify.maths.read_forms import read
from tracestill.records import Problem

Options = Mapping[str, str]
"""The options' texts by label, `A` to `Z` or `1` to `9`; empty where none are known."""

# One character for one, and no normalize() of whole texts: that takes quadratic time on a long
# run of combining marks.
_WIDTHS: dict[int, str] = {
    code: narrow
    for first, last in ((0xFF01, 0xFF5E), (0x2460, 0x2468), (0x24B6, 0x24E9), (0x1D400, 0x1D6A3))
    for code in range(first, last + 1)
    if len(narrow := unicodedata.normalize("NFKC", chr(code))) == 1 and narrow.isascii()
} | {
    0xFF08: " (",
    0x3000: " ",
    0xA0: " ",
    0x2019: "'",
    0x130: "I",  # the one letter that becomes two in lower case
}
# Zero-width spaces and marks of direction are not seen.
_WIDTHS |= dict.fromkeys([*range(0x200B, 0x2010), *range(0x202A, 0x202F), 0x2060, 0xFEFF], "")
_WIDTHS |= dict.fromkeys(range(0x2066, 0x206A), "")
_STYLE = re.compile(
    r"\\(?:text(?:bf|rm|it|sf|tt|up|normal)?|math(?:rm|bf|it|sf|tt)|mbox|emph|bf|rm|bm)"
    r"\s{0,3}\{([^{}]{0,400})\}"
)
_MARKUP = re.compile(
    r"\*\*+|`|\$|\\[()\[\]!]|\\(?:left|right|displaystyle)(?![a-zA-Z])"
    r"|</?(?:b|strong|i|em|u|p|br|span)\s?/?>",
    re.IGNORECASE,
)
_SPACE = re.compile(r"\\[ ,;:]|\\q?quad(?![a-zA-Z])|~|\t")
_STAR = re.compile(r"(?<![\w*])[*_](\(?[A-Za-z1-9]\)?[.:]?)[*_](?![\w*])")

_MARK = re.compile(
    r"(?:^[ \t>*#•-]{0,8}|(?<![A-Za-z_^\\({]))"
    r"(?:\((?P<round>[A-Za-z1-9])\)|\[(?P<square>[A-Z1-9])\])"
    r"|(?:^[ \t>*#•-]{0,8}|(?<=[\s,;:?|}\]。]))"
    r"(?P<bare>[A-Za-z](?![.:)][.])|[1-9](?![.:)][.\d]))(?P<stop>[.):、])",
    re.MULTILINE,
)
_DIGIT = re.compile(r"\d")
_MAX_TEXT, _MAX_NUMBER = 2_000, 100  # characters of an option's text, and of one that is a number

_ORDERED = {
    letter: label
    for alphabet in ("АБВГДЕЖЗИК", "ΑΒΓΔΕ", "أبجده", "कखगघङ")
    for letter, label in zip(alphabet, "ABCDEFGHIJ", strict=False)
}
_LOOK_ALIKES = {"В": "B", "С": "C", "Е": "E"}
_LETTER = "АБВГДЕЖЗИКСΑΒΓΔΕأبجدهकखगघङ"
_FOREIGN = re.compile(rf"(?<![\wऀ-ॿ])(?:[{_LETTER}](?![\wऀ-ॿ])|[абвгдежзик](?=\)))")
_CYRILLIC_LABEL = re.compile(r"(?<!\w)[Бб][.):]")


def plain(text: str) -> str:
    """Text without what only changes its look: width, bold, fonts, math signs."""
    text = ascii_digits(text.translate(_WIDTHS)).replace("\\\\", "\n")
    if "\\" in text:
        for _ in range(2):  # fonts within fonts
            text = _STYLE.sub(r"\1", text)
    text = text.replace("<answer>", "\nAnswer: ").replace("</answer>", "\n")
    text = _SPACE.sub(" ", _MARKUP.sub("", text))
    return _STAR.sub(r"\1", text) if "*" in text or "_" in text else text


def find_options(problem: Problem) -> Options:
    """The options in `meta["choices"]`, else those that the prompt lists.

    `choices` is a list of texts, a dict from label to text, or `{"label": […], "text": […]}`.
    """
    given: Any = problem.meta.get("choices")
    if isinstance(given, dict) and isinstance(given.get("text"), list):
        labels = given.get("label") or string.ascii_uppercase
        given = dict(zip(labels, given["text"], strict=False))
    if isinstance(given, (list, tuple)):
        given = dict(zip(string.ascii_uppercase, given, strict=False))
    if isinstance(given, dict) and given:
        labelled = {
            latin_labels(str(label).strip("(). ").upper(), ordered=True): str(text)
            for label, text in given.items()
        }
        if all(re.fullmatch("[A-Z1-9]", label) for label in labelled):
            return labelled
    return _listed(problem.prompt, labelled_in_cyrillic(problem))


@lru_cache(maxsize=1024)  # a problem has many answers
def _listed(prompt: str, ordered: bool) -> Options:
    """The last list of two or more labelled options, of lettered ones if there are such: numbered
    lines are often statements that these are about.
    """
    text = latin_labels(plain(prompt), ordered=ordered)
    runs = _runs(text)
    run = ([run for run in runs if "A" in run] or runs or [{}])[-1]
    return {label: text[begin:end].strip() for label, (_, begin, end) in run.items()}


def without_lists(text: str, options: Options) -> str:
    """Plain text without the lists in which it repeats the options as they were given."""
    lower = text.lower()
    if not all(any(f"{a}{stop}" in lower for stop in ").:、]") for a in map(str.lower, options)):
        return text  # a list of them has every label
    for run in reversed(_runs(text)):
        same = [
            normalise(text[begin:end]) == normalise(options.get(label, ""))
            for label, (_, begin, end) in run.items()
        ]
        if len(same) == len(options) and all(same):
            spans = list(run.values())
            text = text[: spans[0][0]] + "\n" + text[spans[-1][2] :]
    return text


Span = tuple[int, int, int]  # where the label begins, where its text begins and ends


def _runs(text: str) -> list[dict[str, Span]]:
    """Labels that count up from A or 1, each style of label (`A.`, `(A)`, `a)`) by itself."""
    styles: dict[tuple[str, ...], list[tuple[str, int, int]]] = {}
    for match in _MARK.finditer(text):
        label = match["round"] or match["square"] or match["bare"]
        kind = "1" if label.isdigit() else "a" if label.islower() else "A"
        shape = "(" if match["round"] else "[" if match["square"] else match["stop"]
        marks = styles.setdefault((kind, shape), [])
        marks.append((label.upper(), match.start(), match.end()))
    found: list[tuple[int, dict[str, Span]]] = []
    for (kind, _), marks in styles.items():
        run: list[tuple[str, int, int]] = []
        for mark in [*marks, ("", len(text), len(text))]:
            first = mark[0] == kind.upper()
            if run and not first and mark[0] == chr(ord(run[-1][0]) + 1):
                run.append(mark)
            elif first or not mark[0]:
                if len(run) > 1 and (spans := _spans(text, run, mark[1])):
                    found.append((run[0][1], spans))
                run = [mark]
    return [spans for _, spans in sorted(found, key=lambda item: item[0])]


def _spans(text: str, run: list[tuple[str, int, int]], stop: int) -> dict[str, Span]:
    """Where each option's text lies, the last one's on its line and before `stop`; none where a
    label has no text, as in "(A), (B) or (C)".
    """
    spans: dict[str, Span] = {}
    line_end = text.find("\n", run[-1][2], stop)
    ends = [start for _, start, _ in run[1:]] + [line_end if line_end >= 0 else stop]
    for (label, start, begin), end in zip(run, ends, strict=True):
        content = text[begin:end].strip(" \t\n,;|")
        if not any(c.isalnum() or c in "\\+-=∅∞√" for c in content) or content in ("or", "and"):
            return {}
        spans[label] = (start, begin, end)
    return spans


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """An option's text without differences that mean nothing: looks, spaces, the last stop."""
    text = plain(text.replace("\\$", "")).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = text.replace("\\%", "%").replace("{,}", ",").replace("−", "-")
    return "".join(text.split()).strip("\"'“”‘’«»„.,;。").strip()


def match_text(text: str, options: Options) -> str | None:
    """The label of the one option with this text: in this case, in any, or a number of the same
    value (`1/2`, `0.5`), with or without the option's unit. None where none fits, or several do.
    """
    wanted = normalise(text) if len(text) <= _MAX_TEXT else ""
    if not wanted:
        return None
    value = _value(text)
    if value is not None and value.unit is not None:  # or prose: "41 is wrong"
        value = None
    ways: tuple[Callable[[str], bool | None], ...] = (
        lambda option: normalise(option) == wanted,
        lambda option: normalise(option).casefold() == wanted.casefold(),
        lambda option: value is not None and same(_value(option), value),
    )
    for fits in ways:
        labels = [label for label, option in options.items() if fits(option)]
        if labels:
            return labels[0] if len(labels) == 1 else None
    return None


@lru_cache(maxsize=4096)
def _value(text: str) -> Scalar | None:
    text = plain(text).strip("\"'“”‘’ ")
    if len(text) > _MAX_NUMBER or not _DIGIT.search(text):
        return None
    form = read(clean(text))
    return form if isinstance(form, Scalar) else None


def latin_labels(text: str, *, ordered: bool) -> str:
    """The text with labels of other alphabets as Latin letters, one for one: `Б` is B.

    Of Cyrillic ones those that look Latin (`В`, `С`) are what they look like, unless the options
    are `ordered`: labelled in Cyrillic.
    """
    if text.isascii():
        return text
    letters = _ORDERED if ordered else _ORDERED | _LOOK_ALIKES
    return _FOREIGN.sub(lambda found: letters.get(found[0].upper(), found[0]), text)


def labelled_in_cyrillic(problem: Problem) -> bool:
    """Whether the problem's options are labelled `А`, `Б`, `В`, `Г`."""
    choices = problem.meta.get("choices")
    keys = choices.get("label", choices) if isinstance(choices, dict) else ()
    return "Б" in keys or (
        not problem.prompt.isascii() and _CYRILLIC_LABEL.search(problem.prompt) is not None
    )
