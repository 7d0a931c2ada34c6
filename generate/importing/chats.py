"""Layouts whose rows hold a conversation: a user's turn and the teacher's answer to it."""

from __future__ import annotations

import json
from typing import Any

from generate.importing.layout import Content, Found, Layout, Row, facts, optional, whole
from tracestill.records import Kind

_USER, _ASSISTANT = ("user", "human"), ("assistant", "gpt")


def turns(row: Row, column: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The user's turn and the answer to it, whichever of the two common key styles they have.

    Raises:
        ValueError: the row holds anything but one such exchange.

    """
    messages = row.get(column)
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise ValueError(f"{column} is no list of turns")
    said = [(str(turn.get("role", turn.get("from"))), turn) for turn in messages]
    said = [(role, turn) for role, turn in said if role != "system"]
    roles = [role for role, _ in said]
    if len(said) != 2 or roles[0] not in _USER or roles[1] not in _ASSISTANT:
        raise ValueError(f"{column} is not one turn of a user and one answer, but {roles}")
    for _, turn in said:
        content = turn.get("content", turn.get("value"))
        if not isinstance(content, str) or not content.strip():
            raise ValueError(f"{column} has a turn without text")
    return said[0][1], said[1][1]


def content_of(turn: dict[str, Any]) -> str:
    """What a turn says."""
    return str(turn.get("content", turn.get("value")))


def _messages(row: Row) -> Content:
    asked, answer = turns(row, "messages")
    found = Found(raw=content_of(answer), tokens=whole(row.get("num_tokens")))
    return Content(
        prompt=content_of(asked).strip(),
        reference="",
        kind="open",
        source=optional(row, "source"),
        found=(found,),
    )


def _conversations(row: Row) -> Content:
    asked, answer = turns(row, "conversations")
    return Content(
        prompt=content_of(asked).strip(),
        reference="",
        kind="open",
        source=optional(row, "source"),
        found=(Found(raw=content_of(answer)),),
        facts=facts(row, "domain", "difficulty"),
    )


def _am(row: Row) -> Content:
    asked, answer = turns(row, "messages")
    known, given = asked.get("info") or {}, answer.get("info") or {}
    reference, tests = optional(known, "reference_answer"), optional(known, "test_case")
    source = optional(known, "source")
    kind: Kind = "open"
    if _are_tests(tests):
        kind, reference = "code", tests
    elif reference and "math" in source.lower():
        kind = "math"  # references elsewhere may be any text, which only a judge can compare with
    think, said = optional(given, "think_content"), optional(given, "answer_content")
    # The content holds both parts between tags; their fields are without them.
    found = Found(raw=said, raw_reasoning=think) if think else Found(raw=content_of(answer))
    return Content(
        prompt=content_of(asked).strip(),
        reference=reference,
        kind=kind,
        source=source,
        found=(found,),
    )


def _are_tests(text: str) -> bool:
    """Whether a text holds tests in a shape that the verifier of code reads."""
    try:
        tests = json.loads(text) if text else None
    except ValueError:
        return False
    return isinstance(tests, dict) and ("test" in tests or {"inputs", "outputs"} <= tests.keys())


LAYOUTS = {
    "mixture-of-thoughts": Layout(
        dataset="open-r1/Mixture-of-Thoughts",
        config="all",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("messages",),
        uses=("num_tokens", "source"),
        read=_messages,
    ),
    "openthoughts-114k": Layout(
        dataset="open-thoughts/OpenThoughts-114k",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("conversations",),
        uses=("source", "domain"),
        read=_conversations,
    ),
    "openthoughts3-1.2m": Layout(
        dataset="open-thoughts/OpenThoughts3-1.2M",
        teacher="Qwen/QwQ-32B",
        needs=("conversations",),
        uses=("source", "domain", "difficulty"),
        read=_conversations,
    ),
    "bespoke-stratos-17k": Layout(
        dataset="bespokelabs/Bespoke-Stratos-17k",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("conversations",),
        uses=(),
        read=_conversations,
    ),
    "am-deepseek-r1-distilled": Layout(
        dataset="a-m-team/AM-DeepSeek-R1-Distilled-1.4M",
        config="am_0.9M",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("messages",),
        read=_am,
    ),
}
