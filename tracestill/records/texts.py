"""Texts as a line shows them."""

from __future__ import annotations


def shortened(text: str, most: int) -> str:
    """A text in one line of at most `most` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
