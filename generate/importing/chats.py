"""Formats whose rows hold a conversation: a user's turn and the teacher's answer to it."""

from __future__ import annotations

import json
from functools import partial

from generate.importing.row_format import (
    ParsedRow,
    Row,
    RowFormat,
    RowResponse,
    facts,
    optional,
    response,
    text,
    whole,
)
from generate.importing.turns import exchange, prompt_in
from generate.messages import Message, read_message
from tracestill.records import Kind

_LANGUAGES = {"German": "de", "French": "fr", "Italian": "it", "Spanish": "es"}


def _chat(column: str, row: Row) -> ParsedRow:
    user, answer = exchange(row.get(column), column)
    return ParsedRow(
        prompt=prompt_in([user], column),
        source=optional(row, "source"),
        language=optional(row, "language") or "en",
        responses=(response(read_message(answer), tokens=whole(row.get("num_tokens"))),),
        facts=facts(row, "domain", "difficulty"),
    )


def _am(row: Row) -> ParsedRow:
    user, answer = exchange(row.get("messages"), "messages")
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
    parts = RowResponse(raw=said, raw_reasoning=think)
    return ParsedRow(
        prompt=prompt_in([user], "messages"),
        reference=reference,
        kind=kind,
        source=source,
        responses=(parts if think else response(read_message(answer)),),
    )


def _multilingual(row: Row) -> ParsedRow:
    language = _LANGUAGES.get(optional(row, "reasoning_language"), "en")
    return _chat("messages", {**row, "language": language})


def _nemotron(row: Row) -> ParsedRow:
    user, answer = exchange(row.get("messages"), "messages")
    category, reference = optional(row, "category"), _expected(optional(row, "metadata"))
    return ParsedRow(
        prompt=prompt_in([user], "messages"),
        reference=reference,
        kind="math" if reference and category == "math" else "open",
        source=category,
        responses=(response(read_message(answer), teacher=optional(row, "generator") or None),),
        facts=facts(row, "uuid", "reasoning"),
    )


def _expected(metadata: str) -> str:
    """The reference in a row's metadata, "" where there is none."""
    try:
        found = json.loads(metadata) if metadata else {}
    except ValueError:
        found = {}
    return optional(found, "expected_answer") if isinstance(found, dict) else ""


def _llama_nemotron(row: Row) -> ParsedRow:
    said = Message(text=text(row, "output"), reasoning=None)
    return ParsedRow(
        prompt=prompt_in(row.get("input"), "input"),
        source=optional(row, "category"),
        responses=(response(said, teacher=optional(row, "generator") or None),),
        facts=facts(row, "reasoning"),
    )


def _qwq(row: Row) -> ParsedRow:
    # The preview of QwQ wrote no tags: its answer is the end of its reasoning.
    return ParsedRow(
        prompt=text(row, "problem"),
        source=optional(row, "source"),
        responses=(RowResponse(raw=text(row, "qwq")),),
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
    "multilingual-thinking": RowFormat(
        dataset="HuggingFaceH4/Multilingual-Thinking",
        teacher="HuggingFaceH4/Multilingual-Thinking",  # translated by a model that is not said
        needs=("messages",),
        uses=("reasoning_language",),
        read=_multilingual,
    ),
    "nemotron-post-training": RowFormat(
        dataset="nvidia/Nemotron-Post-Training-Dataset-v1",
        split="math",
        teacher="nvidia/Nemotron-Post-Training-Dataset-v1",  # rows name their own
        needs=("messages",),
        uses=("category", "generator", "metadata", "reasoning", "uuid"),
        read=_nemotron,
    ),
    "llama-nemotron-post-training": RowFormat(
        dataset="nvidia/Llama-Nemotron-Post-Training-Dataset",
        config="SFT",
        split="math",
        teacher="nvidia/Llama-Nemotron-Post-Training-Dataset",  # rows name their own
        needs=("input", "output"),
        uses=("category", "generator", "reasoning"),
        read=_llama_nemotron,
    ),
    "qwq-longcot-130k": RowFormat(
        dataset="amphora/QwQ-LongCoT-130K",
        teacher="Qwen/QwQ-32B-Preview",
        needs=("problem", "qwq"),
        uses=("source",),
        read=_qwq,
    ),
}
