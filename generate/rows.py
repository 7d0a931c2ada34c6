"""A response as a row of the journal, and a row as a trace."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

from generate.engine import Response
from generate.reasoning import split_reasoning
from generate.solutions import with_solution
from tracestill.records import Teacher, Trace, from_row


def response_row(response: Response) -> dict[str, Any]:
    """A response as a row; unlike `asdict`, without a copy of its token ids."""
    return {name: getattr(response, name) for name in Response.__dataclass_fields__}


def read_row(file: BinaryIO, offset: int) -> dict[str, Any]:
    """The row of a journal whose line begins at a byte offset."""
    file.seek(offset)
    row: dict[str, Any] = json.loads(file.readline())
    return row


def as_trace(row: dict[str, Any], solutions: bool = False) -> Trace:
    """The trace of a journal's row, split into reasoning and answer; those of plain `solutions`
    too.
    """
    split = split_reasoning(
        row["raw"],
        row["prefill"],
        raw_reasoning=row.get("raw_reasoning"),
        closed_at=row.get("closed_at"),
    )
    if solutions:
        split = with_solution(split)
    return Trace(
        id=row["id"],
        problem_id=row["problem_id"],
        sample=row["sample"],
        raw=row["raw"],
        raw_reasoning=row.get("raw_reasoning"),
        raw_token_ids=row["token_ids"],
        reasoning=split.reasoning,
        answer=split.answer,
        finish=row["finish"],
        error=row["error"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        teacher=from_row(Teacher, row["teacher"]),
        seconds=row["seconds"],
        cost=row["cost"],
    )
