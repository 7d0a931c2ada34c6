"""Formats whose rows hold a conversation: a user's turn and the teacher's answer to it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from generate.importing.row_format import (
    ParsedRow,
    Row,
    RowFormat,
    RowResponse,
    facts,
    optional,
    whole,
)
from tracestill.records import Kind

_USER, _ASSISTANT = ("user", "human"), ("assistant", "gpt")


def _exchange(row: Row, column: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The user's turn and the answer to it, with `content` whichever style of keys they have.

    Raises:
        ValueError: the row holds anything but one such exchange.

    """
    messages = row.get(column)
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise ValueError(f"{column} is no list of turns")
    turns = [
        {"role": turn.get("from"), "content": turn.get("value"), **turn}
        for turn in messages
        if turn.get("role", turn.get("from")) != "system"
    ]
    roles = [str(turn["role"]) for turn in turns]
    if len(turns) != 2 or roles[0] not in _USER or roles[1] not in _ASSISTANT:
        raise ValueError(f"{column} is not one turn of a user and one answer, but {roles}")
    if not all(isinstance(turn["content"], str) and turn["content"].strip() for turn in turns):
        raise ValueError(f"{column} has a turn without text")
    return turns[0], turns[1]


def _chat(column: str, row: Row) -> ParsedRow:
    user, answer = _exchange(row, column)
    return ParsedRow(
        prompt=user["content"].strip(),
        source=optional(row, "source"),
        responses=(RowResponse(raw=answer["content"], tokens=whole(row.get("num_tokens"))),),
        facts=facts(row, "domain", "difficulty"),
    )


def _am(row: Row) -> ParsedRow:
    user, answer = _exchange(row, "messages")
    known, given = user.get("info") or {}, answer.get("info") or {}
    reference, tests = optional(known, "reference_answer"), optional(known, "test_case")
    source = optional(known, "source")
    kind: Kind = "open"
    if _are_tests(tests):
        kind, reference = "code", tests
    elif reference and "math" in source.lower():
        kind = "math"  # references elsewhere may be any text, which only a judge can compare with
    think, said = optional(given, "think_content"), optional(given, "answer_content")
    # The content holds both parts between tags; their fields are without them.
    response = RowResponse(raw=said if think else answer["content"], raw_reasoning=think or None)
    return ParsedRow(
        prompt=user["content"].strip(),
        reference=reference,
        kind=kind,
        source=source,
        responses=(response,),
    )


def _are_tests(text: str) -> bool:
    """Whether a text holds tests in a shape that the verifier of code reads."""
    try:
        tests = json.loads(text) if text else None
    except ValueError:
        return False
    return isinstance(tests, dict) and ("test" in tests or {"inputs", "outputs"} <= tests.keys())


FORMATS = {
    "mixture-of-thoughts": RowFormat(
        dataset="open-r1/Mixture-of-Thoughts",
        config="all",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("messages",),
        uses=("num_tokens", "source"),
        read=partial(_chat, "messages"),
    ),
    "openthoughts-114k": RowFormat(
        dataset="open-thoughts/OpenThoughts-114k",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("conversations",),
        uses=("source", "domain"),
        read=partial(_chat, "conversations"),
    ),
    "openthoughts3-1.2m": RowFormat(
        dataset="open-thoughts/OpenThoughts3-1.2M",
        teacher="Qwen/QwQ-32B",
        needs=("conversations",),
        uses=("source", "domain", "difficulty"),
        read=partial(_chat, "conversations"),
    ),
    "bespoke-stratos-17k": RowFormat(
        dataset="bespokelabs/Bespoke-Stratos-17k",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("conversations",),
        uses=(),
        read=partial(_chat, "conversations"),
    ),
    "am-deepseek-r1-distilled": RowFormat(
        dataset="a-m-team/AM-DeepSeek-R1-Distilled-1.4M",
        config="am_0.9M",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("messages",),
        read=_am,
    ),
}
