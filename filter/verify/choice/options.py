"""Find a multiple-choice problem's options, and read text as they are written."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from filter.phrases import ascii_digits
from tracestill.records import Problem

Options = Mapping[str, str]
"""The options' texts by label, `A` to `Z` or `1` to `9`; empty where none are known."""

# One character for one, and no normalize() of whole texts: that takes quadratic time on a long
# run of combining marks.
_WIDTHS: dict[int, str] = {
    code: same
    for first, last in ((0xFF01, 0xFF5E), (0x2460, 0x2468), (0x24B6, 0x24E9), (0x1D400, 0x1D6A3))
    for code in range(first, last + 1)
    if len(same := unicodedata.normalize("NFKC", chr(code))) == 1 and same.isascii()
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
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?:(?P<number>\d+(?:\.\d+)?)(?:/(?P<over>\d+))?"
    r"|\\frac\{(?P<top>\d+)\}\{(?P<under>\d+)\})"
)
_BARE_FRACTION = re.compile(r"\\frac\s?(\w)\s?(\w)")
_BARE_ROOT = re.compile(r"\\sqrt\s?(\w)")

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
    for _ in range(2):  # fonts within fonts
        text = _STYLE.sub(r"\1", text)
    text = text.replace("<answer>", "\nAnswer: ").replace("</answer>", "\n")
    return _STAR.sub(r"\1", _SPACE.sub(" ", _MARKUP.sub("", text)))


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
    ordered = labelled_in_cyrillic(problem)
    runs = option_runs(latin_labels(plain(problem.prompt), ordered=ordered))
    letters = [run for run in runs if "A" in run]
    # Numbered lines are often statements that the lettered options are about.
    return (letters or runs or [{}])[-1]


def option_runs(text: str) -> list[dict[str, str]]:
    """Every list of two or more labelled options in plain text, in order of appearance."""
    return [
        {label: text[begin:end].strip() for label, (_, begin, end) in run.items()}
        for run in _runs(text)
    ]


def without_lists(text: str, options: Options) -> str:
    """Plain text without the lists in which it repeats the options as they were given."""
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


def normalise(text: str) -> str:
    """An option's text without differences that mean nothing: looks, spaces, the last stop."""
    text = plain(text.replace("\\$", "")).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = text.replace("\\%", "%").replace("{,}", ",").replace("−", "-")
    text = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    text = _BARE_ROOT.sub(r"\\sqrt{\1}", _BARE_FRACTION.sub(r"\\frac{\1}{\2}", text))
    return "".join(text.split()).strip("\"'“”‘’«»„.,;。").strip()


def match_text(text: str, options: Options) -> str | None:
    """The label of the one option with this text: in this case, in any, a number of the same value
    (`1/2`, `0.5`), or one without its option's unit. None where no option or more than one fits.
    """
    wanted = normalise(text)
    if not wanted or len(text) > 2000:
        return None
    forms = {label: _form(option) for label, option in options.items()}
    value = _value(wanted)
    for same in (
        lambda form: form == wanted,
        lambda form: form.casefold() == wanted.casefold(),
        lambda form: value is not None and _value(form) == value,
        lambda form: value is not None and _value(_without_unit(form)) == value,
    ):
        labels = [label for label, form in forms.items() if same(form)]
        if labels:
            return labels[0] if len(labels) == 1 else None
    return None


_form = lru_cache(maxsize=1024)(normalise)


def _value(form: str) -> Fraction | None:
    number = _NUMBER.fullmatch(form)
    if number is None or len(form) > 100:
        return None
    over = number["over"] or number["under"] or "1"
    if not int(over):
        return None
    value = Fraction(number["number"] or number["top"]) / int(over)
    return -value if number["sign"] == "-" else value


def _without_unit(form: str) -> str:
    """The number that an option's text begins with, where only a unit follows."""
    number = _NUMBER.match(form)
    unit = form[number.end() :] if number else ""
    return number.group() if number and re.fullmatch(r"[^\d=<>+*/^-]{1,20}\d?", unit) else ""


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
    return "Б" in keys or _CYRILLIC_LABEL.search(problem.prompt) is not None
