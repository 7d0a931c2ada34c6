"""Words and runs of words, on which duplicates and contamination are decided."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

Gram = tuple[str, ...]

# Chinese and Japanese put no space between words: each character counts as one.
_CJK = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")
_EDGES = ".,;:!?\"'`()[]{}$*\u201c\u201d\u2018\u2019\u3002\uff0c\u3001"


def spaced(text: str) -> str:
    """A text with white space around each word: Chinese and Japanese by the character."""
    if text.isascii():
        return text
    return " ".join(_CJK.sub(r" \1 ", unicodedata.normalize("NFKC", text)).split())


def split_words(text: str) -> list[str]:
    """A text's words as they stand: by whitespace, Chinese and Japanese by the character."""
    return spaced(text).split()


def prompt_words(text: str) -> list[str]:
    """A text's words without case and without punctuation at their edges.

    What is nothing but punctuation stays: brackets and operators are what problems differ in.
    """
    return [word.strip(_EDGES) or word for word in split_words(text.lower())]


def grams(words: Sequence[str], n: int) -> Iterator[Gram]:
    """Every run of `n` words, in order; none where there are fewer."""
    return zip(*(words[i:] for i in range(n)), strict=False)
