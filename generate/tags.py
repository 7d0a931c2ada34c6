"""The tags and control tokens that teachers write around their reasoning and their answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tracestill.records.tags import PAIRS

# What some of them put around the answer that follows.
_WRAPPERS = (
    ("<answer>", "</answer>"),  # Hunyuan, AM's traces
    ("<response>", "</response>"),  # Ernie
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
)
# With what a turn of a teacher ends.
_STOPS = (
    "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>",
    "<|end|>", "<|return|>", "<|user|>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>",
    "<|end▁of▁sentence|>", "<|end_of_sentence|>", "<end_of_turn>", "<eos>", "</s>", "[EOS]",
)  # fmt: skip
# Converters and small students write the tags with other brackets, cases and inner spaces.
_VARIANTS = {"<": "[<＜〈⟨]", ">": "[>＞〉⟩]", "/": "[/／]", "|": "[|｜]"}


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag from `begin` to `end` in a text, of the pair number `family` in `PAIRS`."""

    begin: int
    end: int
    family: int
    opens: bool


def _pattern(tag: str) -> str:
    """What follows the first character, which is looked back at."""
    first, *others = (_VARIANTS.get(char, re.escape(char)) for char in tag)
    if "|" in tag or tag[0] != "<":
        return f"(?<={first}){''.join(others)}"
    slash = others.pop(0) if tag[1] == "/" else ""
    return f"(?<={first})(?i: ?{slash} ?{''.join(others[:-1])} ?){others[-1]}"


# The set of first characters is what `re` skips to at the speed of a search.
_TAGS = re.compile(
    "[<＜〈⟨◁[](?:" + "|".join(f"({_pattern(tag)})" for pair in PAIRS for tag in pair) + ")"
)


def without_stop(text: str) -> str:
    """A text without the control tokens at its end."""
    end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        stop = next((token for token in _STOPS if text.endswith(token, 0, end)), None)
        if stop is None:
            return text[:end]
        end -= len(stop)


def find_tags(text: str) -> Iterator[Tag]:
    """The tags in a text, in order."""
    for match in _TAGS.finditer(text):
        number = (match.lastindex or 1) - 1
        yield Tag(match.start(), match.end(), number // 2, number % 2 == 0)


def unwrapped(text: str) -> str:
    """An answer without the tags that some teachers put around it."""
    text = text.strip()
    for opening, closing in _WRAPPERS:
        if text.startswith(opening):
            inner = text[len(opening) :]
            if inner.endswith(closing):
                return inner[: -len(closing)].strip()
            return text if closing in inner else inner.strip()
    return text
