"""What a search looks for: words, and words in a row."""

from __future__ import annotations

import re

# Of scripts that put no white space between words each character is a word of its own.
_ALONE = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_PART = re.compile(r'"([^"]*)"?|([^\s"]+)')
_WORD = re.compile(r"\w", re.UNICODE)


def spaced(text: str) -> str:
    """A text as it is indexed."""
    return text if text.isascii() else _ALONE.sub(r" \g<0> ", text)


def match_of(asked: str) -> str:
    """An FTS5 expression for what a person typed: all words must be there, those in quotes in a
    row, and `word*` is whatever begins so. Empty where there is no word in it.
    """
    parts = []
    for found in _PART.finditer(asked):
        quoted, word = found.groups()
        text = quoted if quoted is not None else word
        if not _WORD.search(text):
            continue
        begins = quoted is None and text.endswith("*")
        parts.append(f'"{spaced(text).replace(chr(0), " ")}"' + ("*" if begins else ""))
    return " AND ".join(parts)
