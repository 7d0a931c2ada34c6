"""The format of any table, by a map of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

from generate.importing.row_format import (
    ParsedRow,
    Row,
    RowFormat,
    RowResponse,
    optional,
    value_of,
    whole,
)
from generate.importing.turns import answers_in, prompt_in
from tracestill.records import Finish

COLUMNS = (
    "prompt", "response", "reasoning", "reference", "source", "language", "tokens", "finish",
    "teacher",
)  # fmt: skip
_NEEDS = ("prompt", "response")


def table(columns: Mapping[str, str]) -> RowFormat:
    """The format of a table: `columns` maps our names of columns to the table's, where they differ.

    Raises:
        ValueError: it maps a name that is none of ours.

    """
    if unknown := sorted(set(columns) - set(COLUMNS)):
        raise ValueError(f"generate.columns: unknown {unknown}; it maps {', '.join(COLUMNS)}")
    # A column that is named has to be there; one that is not may be.
    named = {ours: columns.get(ours, ours) for ours in COLUMNS}
    needs = dict.fromkeys([*(named[ours] for ours in _NEEDS), *columns.values()])
    return RowFormat(
        needs=tuple(needs),
        uses=tuple(name for name in named.values() if name not in needs),
        read=partial(_read, named),
        teacher="unknown",
    )


def _read(named: Mapping[str, str], row: Row) -> ParsedRow:
    answers = answers_in(value_of(row, named["response"]), named["response"])
    thought = value_of(row, named["reasoning"])
    thoughts = thought if isinstance(thought, list) else [thought] * len(answers)
    if not answers or len(thoughts) != len(answers):
        raise ValueError(f"{len(answers)} responses, but {len(thoughts)} reasonings")
    finish = optional(row, named["finish"]) or "stop"
    if finish not in ("stop", "length", "error"):
        raise ValueError(f"finish is {finish!r}: it is stop, length or error")
    responses = []
    for number, (answer, reasoning) in enumerate(zip(answers, thoughts, strict=True)):
        if answer is None:
            error = f"response {number} is no text"
            responses.append(RowResponse(raw="", finish="error", error=error))
            continue
        responses.append(
            RowResponse(
                raw=answer.text,
                raw_reasoning=reasoning if isinstance(reasoning, str) else answer.reasoning,
                finish=cast(Finish, finish),
                tokens=whole(value_of(row, named["tokens"])) if len(answers) == 1 else 0,
                teacher=optional(row, named["teacher"]) or None,
            )
        )
    reference = optional(row, named["reference"])
    return ParsedRow(
        prompt=prompt_in(value_of(row, named["prompt"]), named["prompt"]),
        reference=reference,
        kind="math" if reference else "open",
        source=optional(row, named["source"]),
        language=optional(row, named["language"]) or "en",
        responses=tuple(responses),
    )
