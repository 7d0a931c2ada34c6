"""Where in a Markdown text there is code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

_TICKS = re.compile(r"[`~](?:(?<=`)`*|(?<=~)~*)")


def places_in_code(
    text: str, begin: int, places: Sequence[int]
) -> dict[int, Literal["block", "span"]]:
    """Those of the ascending places that lie in a code block or in `code`, and in which."""
    quoted: dict[int, Literal["block", "span"]] = {}
    number = 0
    for start, end, kind in _code(text, begin):
        while number < len(places) and places[number] < start:
            number += 1
        while number < len(places) and places[number] < end:
            quoted[places[number]] = kind
            number += 1
        if number == len(places):
            break
    return quoted


def _code(text: str, begin: int) -> Iterator[tuple[int, int, Literal["block", "span"]]]:
    """Where Markdown's closed code blocks, and its code spans within a line, begin and end."""
    block = span = ""
    since = seen = begin
    for mark in _TICKS.finditer(text, begin):
        run, at = mark.group(), mark.start()
        before = text[max(begin, at - 4) : at]
        fence = len(run) >= 3 and not before.rpartition("\n")[2].strip()
        fence = fence and ("\n" in before or at - begin < 4)
        if block:
            if fence and run.startswith(block):
                yield since, at, "block"
                block, seen = "", mark.end()
            continue
        if span and text.find("\n", seen, at) >= 0:
            span = ""
        seen = mark.end()
        if span:
            if run == span:
                yield since, at, "span"
                span = ""
        elif fence:
            block, since = run, mark.end()
        elif run[0] == "`":
            span, since = run, mark.end()
