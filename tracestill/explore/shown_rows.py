"""All that a report's page shows of a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tracestill.explore import marks
from tracestill.explore.choice import KEPT
from tracestill.explore.life import (
    PASSED,
    passed,
    steps_of,
    student_said,
    teacher_said,
    verdict_said,
)
from tracestill.explore.load import Run
from tracestill.explore.rows import rows_at, rows_with
from tracestill.records import Dispute, Drop, Learnt, Teacher, Verdict
from tracestill.records.arrow import from_row

LONGEST = 6_000  # characters of a text that are shown
_READ = ("id", "problem_id", "sample", "completion_tokens", "finish", "error", "reasoning",
         "answer", "teacher")  # fmt: skip

Pieces = list[marks.Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """A trace as the page shows it. `reason` is `kept` for a kept one, `step` is then empty;
    `passed` are the steps that it passed, `dropped` what the next said. `loop` is how many
    characters its end takes that is said over and over, so many `times`. Texts are in pieces
    (`tracestill.explore.marks`); `quote` is what the step that dropped it says to have found.
    """

    id: str
    problem: str
    sample: int
    tokens: int
    finish: str
    reason: str
    step: str
    outcome: str
    verdict: str
    judged: str
    passed: tuple[str, ...]
    dropped: str
    student: str
    teacher: str
    error: str
    loop: int
    times: int
    disputed: str
    quote: str
    reasoning: Pieces
    answer: Pieces

    def values(self) -> list[Any]:
        """Its fields, in their order."""
        return [getattr(self, name) for name in names()]


def names() -> list[str]:
    """The names of a row's fields."""
    return [field.name for field in fields(ShownRow)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a run says of some traces, by their id, and what holds for all of it."""

    steps: Sequence[str]
    trained: bool
    verdicts: Mapping[str, Verdict]
    drops: Mapping[str, Drop]
    disputes: Mapping[str, Dispute]
    heldout: Mapping[str, bool]
    countries: Sequence[str]


def shown_rows(run: Run, places: Sequence[int]) -> dict[int, ShownRow]:
    """The traces at ascending places of the table, by place.

    Raises:
        ValueError: a stage's files are damaged.

    """
    import numpy as np

    folder, wanted = run.path / "generate", np.array(places, np.int64)
    ids = [row["id"] for _, row in rows_at(folder, "traces", wanted, ["id"])]
    told = _told(run, ids)
    return {place: _shown(row, told) for place, row in rows_at(folder, "traces", wanted, _READ)}


def _told(run: Run, ids: Sequence[str]) -> _Told:
    folder, made = run.path / "filter", run.manifest("finetune")
    learnt: Iterator[Learnt] = iter(())
    trained = made is not None and "learnt" in made.tables  # not so in runs of before format 3
    if trained:
        learnt = rows_with(run.path / "finetune", "learnt", Learnt, "trace_id", ids)
    return _Told(
        steps=steps_of(run.path),
        trained=trained,
        verdicts={v.trace_id: v for v in rows_with(folder, "verdicts", Verdict, "trace_id", ids)},
        drops={d.trace_id: d for d in rows_with(folder, "drops", Drop, "trace_id", ids)},
        disputes={d.trace_id: d for d in rows_with(folder, "disputes", Dispute, "trace_id", ids)},
        heldout={one.trace_id: one.heldout for one in learnt},
        countries=_phone_countries(run),
    )


def _phone_countries(run: Run) -> list[str]:
    """Those whose national numbers the recipe's steps `private` look for."""
    steps = (step for step in run.recipe["filter"]["steps"] if isinstance(step, dict))
    found = (step.get("private") or {} for step in steps)
    return [country for one in found for country in one.get("phone_countries", [])]


def _shown(row: Mapping[str, Any], told: _Told) -> ShownRow:
    own: str = row["id"]
    verdict, drop, dispute = (
        told.verdicts.get(own), told.drops.get(own), told.disputes.get(own)
    )  # fmt: skip
    events = passed(told.steps, drop)
    # Who judged, which many have in common, is apart from what was found.
    found, by, rest = verdict_said(verdict).partition(
        f" by {verdict.verifier}: " if verdict else ": "
    )
    said = student_said(kept=drop is None, trained=told.trained, heldout=told.heldout.get(own))
    texts = {name: row[name] or "" for name in ("reasoning", "answer")}
    if drop is not None and drop.step == "private":
        texts = {name: marks.masked(text, told.countries) for name, text in texts.items()}
    loops = {name: marks.loop_in(text) for name, text in texts.items()}
    longest = max(
        (loop for loop in loops.values() if loop),
        key=lambda loop: loop.end - loop.begin,
        default=None,
    )
    pieces = {
        name: marks.pieces(text, _marks(name, text, loops[name], verdict, drop), LONGEST)
        for name, text in texts.items()
    }
    return ShownRow(
        id=own,
        problem=row["problem_id"],
        sample=row["sample"],
        tokens=row["completion_tokens"],
        finish=row["finish"],
        reason=drop.reason if drop else KEPT,
        step=drop.step if drop else "",
        outcome=verdict.outcome if verdict else "none",
        verdict=found,
        judged=by + rest,
        passed=tuple(event.what for event in events if event.said == PASSED),
        dropped=events[-1].said if drop else "",
        student=said,
        teacher=teacher_said(from_row(Teacher, row["teacher"])),
        error=row["error"] or "",
        loop=longest.end - longest.begin if longest else 0,
        times=round(longest.times) if longest else 0,
        disputed="; ".join(f"{by}: {one}" for by, one in dispute.opinions.items())
        if dispute
        else "",
        quote=(marks.quoted(drop) or "") if drop else "",
        reasoning=pieces["reasoning"],
        answer=pieces["answer"],
    )


def _marks(
    name: str, text: str, loop: marks.Loop | None, verdict: Verdict | None, drop: Drop | None
) -> Iterator[marks.Mark]:
    """What is marked in a trace's reasoning or answer."""
    if loop is not None:
        yield marks.Mark(loop.begin, loop.end, "loop")
    if name == "answer" and verdict is not None:
        found = marks.answer_in(text, verdict.extracted)
        if found is not None:
            yield found
    if drop is None:
        return
    if drop.reason == "repetitive" and loop is None:
        yield from marks.repeats_in(text)
    quote = marks.quoted(drop)
    if quote and (found := marks.quote_in(text, quote)) is not None:
        yield found
