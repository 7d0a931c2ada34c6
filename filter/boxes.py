r"""Find the boxes, `\boxed{…}` and `\fbox{…}`, in an answer."""

from __future__ import annotations

import re
from typing import NamedTuple

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BOX_OPENS = re.compile(r"\\(?:boxed|fbox)\s*\{")
# `\boxed 7`, as TeX allows for one token and models write for one number.
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)[ ~]*([-+]?(?:\d[\d.,/%]*|[A-Za-z](?![A-Za-z])))")
# A backslash takes the character after it along, so that `\{` is no brace; but not that of a box.
_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\(?!\\(?:boxed|fbox)).|[{}]", re.DOTALL)
# What may stand between two boxes that are one answer; and at most so many are joined.
_BETWEEN_BOXES = re.compile(
    r"\}\s*(?:\$|\\\)|\\\])*\s*(?:(?:,|;|\\quad|\\qquad|\\text\s?\{\s*(?:and|or|,)\s*\}|and|or)\s*)+"
    r"(?:\$|\\\(|\\\[)*\s*(?:[A-Za-z](?:_\w|_\{\w+\})?\s*=\s*)?$"
    r"|\}[ \w()$\\{]{0,30}\band\b[ }$]*$"
    r"|\}$"
)
# A percent sign after the box.
_PERCENT_AFTER = re.compile(r"\}\s*(?:\$|\\\)|\\\])*\s*(?:\\?%|per ?cent\b|pct\b)")
_MAX_BOXES = 50


class Box(NamedTuple):
    """Where a box begins in a text, where its content does, and where that ends."""

    begin: int
    content: int
    end: int


def percent_after_box(text: str) -> bool:
    """Whether `%` or `percent` stands right after the last box."""
    found = _last_box(text)
    return found is not None and _PERCENT_AFTER.match(text, found.end) is not None


def boxed_answer(text: str) -> str | None:
    r"""The last box's content; where boxes stand side by side (`\boxed{1} and \boxed{2}`), that of
    each once, separated by commas. None where there is no box; `""` where the last of several never
    closes: the text was cut while it gave another answer, so that the earlier ones are void.
    """
    found = _last_box(text)
    if found is None:
        return None
    last = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if last > found.end and _BOX_OPENS.match(text, last):
        return ""
    contents = [text[found.content : found.end].strip()]
    while len(contents) < _MAX_BOXES:
        before = max(0, found.begin - 60)
        between = _BETWEEN_BOXES.search(text, before, found.begin)
        if between is None:
            break
        previous = _last_box(text[: between.start() + 1])
        if previous is None or previous.end != between.start():
            break
        contents.append(text[previous.content : previous.end].strip())
        found = previous
    return ", ".join(dict.fromkeys(reversed(contents)))


def boxes(text: str) -> list[str]:
    """The contents of the last boxes, at most 50, without those inside others, in order."""
    contents: list[str] = []
    found = _last_box(text)
    while found is not None and len(contents) < _MAX_BOXES:
        contents.append(text[found.content : found.end].strip())
        text = text[: found.begin]
        found = _last_box(text)
    return contents[::-1]


def last_boxed(text: str) -> str | None:
    r"""What stands in the last balanced `\boxed{…}` or `\fbox{…}`, without outer whitespace.

    Of two boxes in one another the inner one is the last. An empty box is `""`; None where there
    is no box that closes. Takes time linear in the text, whatever the text.
    """
    found = _last_box(text)
    return None if found is None else text[found.content : found.end].strip()


def _last_box(text: str) -> Box | None:
    begin = len(text)
    for _ in range(16):  # from the end, since that is where the answer stands in a long trace
        before = begin
        begin = text.rfind("\\boxed", 0, before)
        begin = max(begin, text.rfind("\\fbox", max(begin, 0), before))
        if begin < 0:
            return None
        opens = _BOX_OPENS.match(text, begin)
        end = _closing_brace(text, opens.end()) if opens else None
        if opens and end is not None:
            return Box(begin, opens.end(), end)
        bare = None if opens else _BARE_BOX.match(text, begin)
        if bare:
            return Box(begin, bare.start(1), bare.end(1))
    return max(balanced_boxes(text), default=None)  # the one that begins last


def _closing_brace(text: str, begin: int) -> int | None:
    depth = 1
    for match in _BRACE.finditer(text, begin):
        token = match.group()
        if token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
            if not depth:
                return match.start()
    return None


def balanced_boxes(text: str) -> list[Box]:
    """Every box that closes, also those inside others, in order of their ends; in linear time."""
    found: list[Box] = []
    opened: list[tuple[int, int] | None] = []  # a box's begin and its content's, None: a brace
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == "{":
            opened.append(None)
        elif token == "}":
            box = opened.pop() if opened else None
            if box is not None:
                found.append(Box(*box, match.start()))
        elif token.endswith("{") and len(token) > 2:
            opened.append(match.span())
    return found
