"""All that the page of one trace shows of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tracestill.explore import marks
from tracestill.explore.life import PASSED, passed, steps_of, teacher_said
from tracestill.explore.rows import rows_at
from tracestill.records import Drop, Problem, Teacher, Verdict
from tracestill.records.arrow import from_row
from tracestill.view.query import Place

LONGEST = 40_000  # characters of a text that are shown; what is marked in it is shown anyhow
_TRACE = ["id", "problem_id", "sample", "prompt_tokens", "completion_tokens", "finish", "error",
          "reasoning", "answer", "raw", "teacher", "seconds", "cost"]  # fmt: skip

R = TypeVar("R")


def shown_trace(run: Path, place: Place, *, whole: bool = False) -> dict[str, Any]:
    """A trace with its problem, its verdict and why it was dropped, as JSON. Its texts are lists of
    pieces: a text, or what is marked in it as (kind, text). `whole` leaves nothing out of them.

    Raises:
        ValueError: a file is damaged.

    """
    import numpy as np

    ((_, row),) = rows_at(run / "generate", "traces", np.array([place.trace]), _TRACE)
    problem = _record(run / "problems", "train", Problem, place.problem)
    verdict = _verdict(run, place.verdict)
    drop = _record(run / "filter", "drops", Drop, place.drop)
    texts = {name: row[name] or "" for name in ("reasoning", "answer")}
    if not any(texts.values()):
        texts["answer"] = row["raw"] or ""
    loops = {name: marks.loop_in(text) for name, text in texts.items()}
    longest = 1 << 62 if whole else LONGEST
    pieces = {
        name: marks.pieces(text, _marks(name, text, loops[name], verdict, drop), longest)
        for name, text in texts.items()
    }
    steps = steps_of(run) if drop is not None else []
    return {
        "id": row["id"],
        "sample": row["sample"],
        "tokens": row["completion_tokens"],
        "prompt_tokens": row["prompt_tokens"],
        "finish": row["finish"],
        "error": row["error"] or "",
        "seconds": row["seconds"],
        "cost": row["cost"],
        "teacher": teacher_said(from_row(Teacher, row["teacher"])),
        "problem": _problem(problem, row["problem_id"]),
        "verdict": _said_by(verdict),
        "drop": None if drop is None else _drop(drop),
        "passed": [one.what for one in passed(steps, drop) if one.said == PASSED],
        "opinions": json.loads(place.asked) if place.asked else {},
        "loops": {name: _loop(loop) for name, loop in loops.items() if loop is not None},
        "reasoning": pieces["reasoning"],
        "answer": pieces["answer"],
    }


def _record(folder: Path, table: str, record: type[R], place: int | None) -> R | None:
    """The row of a table at a place, None for no place."""
    import dataclasses

    import numpy as np

    if place is None:
        return None
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    ((_, row),) = rows_at(folder, table, np.array([place]), names)
    return from_row(record, row)


def _verdict(run: Path, place: int | None) -> Verdict | None:
    """The filter's verdict; of a run that is not filtered yet, that of sampling."""
    stage = "filter" if (run / "filter" / "manifest.json").exists() else "generate"
    return _record(run / stage, "verdicts", Verdict, place)


def _problem(problem: Problem | None, own: str) -> dict[str, Any]:
    if problem is None:
        return {"id": own, "prompt": "", "reference": "", "task": "", "kind": ""}
    return {
        "id": own, "prompt": problem.prompt, "reference": problem.reference,
        "task": problem.task, "kind": problem.kind,
    }  # fmt: skip


def _said_by(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "outcome": verdict.outcome, "verifier": verdict.verifier, "extracted": verdict.extracted,
        "detail": verdict.detail,
    }  # fmt: skip


def _drop(drop: Drop) -> dict[str, str]:
    return {
        "step": drop.step, "reason": drop.reason, "detail": drop.detail,
        "quote": marks.quoted(drop) or "",
    }  # fmt: skip


def _loop(loop: marks.Loop) -> dict[str, int]:
    return {"characters": loop.end - loop.begin, "times": round(loop.times)}


def _marks(
    name: str, text: str, loop: marks.Loop | None, verdict: Verdict | None, drop: Drop | None
) -> Iterator[marks.Mark]:
    """What is marked in a trace's reasoning or answer: a loop, what the verdict rests on, and what
    a step of the filter found.
    """
    found: Sequence[marks.Mark | None] = [
        marks.Mark(loop.begin, loop.end, "loop") if loop is not None else None,
        marks.answer_in(text, verdict.extracted) if verdict and name == "answer" else None,
        marks.quote_in(text, quote) if drop and (quote := marks.quoted(drop)) else None,
    ]
    yield from (one for one in found if one is not None)
    if drop is not None and drop.reason == "repetitive" and loop is None:
        yield from marks.repeats_in(text)
