"""Read a chat message, in the forms in which servers send them and data sets hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The fields in which a message has its reasoning: vLLM's and DeepSeek's, OpenRouter's, Ollama's and
# gpt-oss's data sets'.
_FIELDS = ("reasoning_content", "reasoning", "thinking")
# What a part of a list, or an object in its place, holds its text in.
_KEYS = ("text", "thinking", "reasoning", "content", "summary", "refusal")
_THINKING = ("thinking", "reasoning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a message says: its text, and the reasoning that stands apart from it, None where it
    has no place for one.
    """

    text: str
    reasoning: str | None


def read_message(message: Mapping[str, Any]) -> Message:
    """A message of an assistant or a user.

    Its content is text, or a list of parts, such as Mistral's `thinking` and `text`. Its reasoning
    is in a field of its own, in such parts, or in OpenRouter's `reasoning_details`, of which
    encrypted ones are left out. Where a model hides its reasoning and sends only a summary, that
    stands for it. Where there is no content, a `refusal` is the text.

    Raises:
        ValueError: the content is neither.

    """
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    text = "".join(flat(part) for part in parts if not _thinks(part))
    text = text or flat(message.get("refusal"))
    fields = [_field(message.get(name)) for name in _FIELDS]
    thought = "".join(flat(part) for part in parts if _thinks(part))
    reasoning = next(filter(None, (*fields, thought, _details(message))), None)
    if reasoning is None and any(isinstance(message.get(name), str) for name in _FIELDS):
        reasoning = ""
    return Message(text=whole(text), reasoning=None if reasoning is None else whole(reasoning))


def _field(value: Any) -> str:
    """A field's reasoning; "" where it holds something else, such as a flag."""
    try:
        return flat(value)
    except ValueError:
        return ""


def _thinks(part: Any) -> bool:
    return isinstance(part, dict) and str(part.get("type")).startswith(_THINKING)


def _details(message: Mapping[str, Any]) -> str:
    details = message.get("reasoning_details")
    kept = [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    for key in ("text", "summary"):
        if texts := [flat(one[key]) for one in kept if one.get(key)]:
            return "\n\n".join(texts)
    return ""


def flat(value: Any) -> str:
    """The text in a content: text, an object that holds some, or a list of these; "" for null.

    Raises:
        ValueError: it is something else.

    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        return "".join(map(flat, value))
    if isinstance(value, dict):
        for key in _KEYS:
            if value.get(key) is not None:
                return flat(value[key])
        if value.get("type") in (None, "text", "thinking"):
            return ""  # a part of it without content
    raise ValueError("the content is no text")


def whole(text: str) -> str:
    """The text with a replacement character for each half of a surrogate pair that stands alone,
    which no file can hold.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
