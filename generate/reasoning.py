"""Split what a model returned into its reasoning and its answer."""

from __future__ import annotations

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
