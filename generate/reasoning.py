"""Split what a model returned into its reasoning and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

VERSION = 1  # part of the generate stage's fingerprint: raise it when a split changes
OPEN, CLOSE = "<think>", "</think>"


def split_reasoning(raw: str, prefill: str = "") -> tuple[str | None, str | None]:
    """The reasoning and the answer in `raw`, each stripped, or None where there is none.

    `prefill` is the end of the prompt that belongs to the model's turn. The tags may both be in
    `raw`; the first may have been prefilled; both may be missing, and then all of it is the
    answer. A think block that never ends is all reasoning. The *last* closing tag ends the
    reasoning: what looks like one inside it stays in the reasoning for a filter to judge.
    """
    text = raw
    begun = OPEN in prefill
    if raw.lstrip().startswith(OPEN):
        text = raw.lstrip()[len(OPEN) :]
        begun = True
    head, tag, tail = text.rpartition(CLOSE)
    if tag:
        return head.strip(), tail.strip()
    if begun:
        return text.strip(), None
    return None, text.strip()


def think_tokens(tokenizer: Any) -> tuple[int | None, int] | None:
    """The ids of the opening and the closing think tag of a transformers tokenizer; None where
    the closing one is no token of its own, so that ids can't tell it from text.
    """
    opening, closing = (
        ids[0] if len(ids := tokenizer.encode(tag, add_special_tokens=False)) == 1 else None
        for tag in (OPEN, CLOSE)
    )
    return None if closing is None else (opening, closing)


def closing_token(ids: Sequence[int], opening: int | None, closing: int) -> int | None:
    """The index of the token that ends the reasoning: the first closing one after which none
    opens again. None: there is no closing one.
    """
    begin = max((i for i, token in enumerate(ids) if token == opening), default=0)
    later = (i for i in range(begin, len(ids)) if ids[i] == closing)
    earlier = (i for i in range(begin - 1, -1, -1) if ids[i] == closing)
    return next(later, next(earlier, None))
