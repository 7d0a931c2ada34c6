"""Decide which step drops which trace, from what was found out about each by itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filter.measuring import DROPPED, MEASURED, NOTED, SECONDS, Prepare, Work, column
from filter.parts import Parts
from filter.steps import build_step, labels
from filter.steps.selection import SelectStep
from filter.steps.step import GlobalStep, Mark, View
from filter.table import Index, TraceFiles, texts_at
from filter.verify.judge import Confirm, Finding
from tracestill.records import Dispute, Drop, Problem

_MARKED = "marked"
_ROWS = 5_000  # that are Python's at once
_NEVER = np.iinfo(np.int8).max
_FIELDS: list[Any] = [
    pa.field("place", pa.int64()),
    pa.field("reason", pa.string()),
    pa.field("detail", pa.string()),
]
_MARKS = pa.schema(_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which step drops the trace at each place, -1 for those that are kept."""

    by: npt.NDArray[np.int8]
    entered: list[int]
    """How many traces reached each step."""
    seconds: list[float]
    """What each step took, of all processes together."""
    stages: list[npt.NDArray[np.int64]]
    """The places of each selection of `Work.stages`, among those that are kept."""


def decide(
    traces: TraceFiles,
    index: Index,
    problems: Sequence[Problem],
    work: Work,
    rates: Mapping[str, float | None] | None,
    confirm: Confirm | None,
    prepare: Prepare,
) -> Decision:
    """Go through the steps in order. What a step over all drops, and what a judge is asked about
    (`confirm`; without one all of it goes), is written as a part `marked`. `rates` are the
    teacher's pass rates by problem; without them they are the shares of its answers in the table
    that are right.
    """
    parts = Parts(work.parts)
    by_row = np.full(traces.rows, _NEVER, np.int8)
    right = np.zeros(traces.rows, bool)
    for unit in traces.units:
        dropped = parts.read(DROPPED, unit.number)
        by_row[dropped.column("place").to_numpy()] = dropped.column("step").to_numpy()
        verdicts = parts.read(work.verdicts, unit.number)
        correct = verdicts.filter(pc.field("outcome") == "correct")
        own = index.ids.slice(unit.first, unit.rows)
        right[unit.first : unit.first + unit.rows] = pc.is_in(
            own, value_set=correct.column("trace_id").combine_chunks()
        ).to_numpy(zero_copy_only=False)

    def view_of(reached: npt.NDArray[np.bool_], number: int) -> View:
        return View(
            live=index.order[reached[index.order]],
            index=index,
            right=right,
            problems=problems,
            measured=partial(_measured, traces, parts, number),
            texts=partial(texts_at, traces),
            scratch=work.parts,
            rates=partial(_rates, index, problems, right, rates),
            student=work.student,
        )

    by = np.full(traces.rows, -1, np.int8)
    entered = []
    seconds = _measuring(traces, parts, len(work.steps))
    for number, entry in enumerate(work.steps):
        begun = time.perf_counter()
        reached = (by < 0) & (by_row >= number)
        entered.append(int(reached.sum()))
        step = build_step(entry, number, needs_reasoning=work.needs_reasoning)
        marks: Iterable[Mark] = []
        if entry.action == "judge":
            marks = _judged(traces, index, problems, work, number, reached, confirm, prepare)
        elif not isinstance(step, GlobalStep):
            by[reached & (by_row == number)] = number
            continue
        elif reached.any():
            marks = step.decide(view_of(reached, number))
        by[_write_marks(parts, number, marks)] = number
        seconds[number] += time.perf_counter() - begun
    stages = []
    for number, select in enumerate(work.stages, len(work.steps)):
        inside = by < 0
        if inside.any():
            marks = SelectStep(select).decide(view_of(inside, number))
            inside[[mark.place for mark in marks]] = False
        stages.append(np.flatnonzero(inside))
    return Decision(by=by, entered=entered, seconds=seconds, stages=stages)


def _measuring(traces: TraceFiles, parts: Parts, steps: int) -> list[float]:
    """What each step took of all units."""
    total = np.zeros(steps)
    for unit in traces.units:
        if parts.has(SECONDS, unit.number):  # an earlier version began without them
            total += parts.read(SECONDS, unit.number).column("seconds").to_numpy()[:steps]
    return total.tolist()


def _rates(
    index: Index,
    problems: Sequence[Problem],
    right: npt.NDArray[np.bool_],
    known: Mapping[str, float | None] | None,
) -> npt.NDArray[np.float64]:
    if known is not None:
        found = (known.get(problem.id) for problem in problems)
        return np.array([np.nan if rate is None else rate for rate in found])
    answers = np.bincount(index.problems[index.answered], minlength=len(problems))
    correct = np.bincount(index.problems[right & index.answered], minlength=len(problems))
    return np.where(answers > 0, correct / np.maximum(1, answers), np.nan)


def _measured(
    traces: TraceFiles, parts: Parts, step: int, name: str, number: int
) -> npt.NDArray[np.uint64]:
    """A column that a step measured, of all units."""
    values = np.zeros(traces.rows, np.uint64)
    for unit in traces.units:
        own = parts.read(MEASURED, unit.number).column(column(step, name, number)).to_numpy()
        values[unit.first : unit.first + unit.rows] = own
    return values


def _judged(
    traces: TraceFiles,
    index: Index,
    problems: Sequence[Problem],
    work: Work,
    number: int,
    reached: npt.NDArray[np.bool_],
    confirm: Confirm | None,
    prepare: Prepare,
) -> list[Mark]:
    """What a step found in the traces that reached it, without what a judge denies."""
    found: dict[int, Mark] = {}
    for unit in traces.units:
        for row in Parts(work.parts).read(NOTED, unit.number).to_pylist():
            if row["step"] == number and reached[row["place"]]:
                found.setdefault(row["place"], Mark(row["place"], row["reason"], row["detail"]))
    if confirm is None or not found:
        return list(found.values())
    asked = [
        Finding(problems[index.problems[place]], text, found[place].reason, found[place].detail)
        for places, texts in texts_at(traces, np.array(sorted(found)))
        for place, text in zip(places.tolist(), prepare(texts), strict=True)
    ]
    said = zip(sorted(found), confirm(asked), strict=True)
    return [
        found[place]._replace(
            detail=f"{found[place].detail} (the judge {'agrees' if right else 'gave no verdict'})"
        )
        for place, right in said
        if right is not False
    ]


def _write_marks(parts: Parts, number: int, marks: Iterable[Mark]) -> npt.NDArray[np.int64]:
    """Write what a step drops with its reasons; returns the places."""
    table = pa.Table.from_pylist([mark._asdict() for mark in marks], _MARKS)
    parts.write(_MARKED, number, table)
    places: npt.NDArray[np.int64] = table.column("place").to_numpy()
    return places


def reasons(traces: TraceFiles, index: Index, work: Work, decision: Decision) -> dict[str, int]:
    """How many traces go for which reason, the most frequent first."""
    every, ordered = _dropped(traces, index, work, decision)
    said: list[Any] = every.column("reason").take(ordered).to_pylist()
    return dict(Counter(said).most_common())


def noted(traces: TraceFiles, work: Work, decision: Decision) -> dict[str, int]:
    """What steps found in the traces that reached them and passed, as "step: reason"."""
    counts: Counter[str] = Counter()
    names = labels(work.steps)
    for unit in traces.units:
        for row in Parts(work.parts).read(NOTED, unit.number).to_pylist():
            by = decision.by[row["place"]]
            if by < 0 or by > row["step"]:
                counts[f"{names[row['step']]}: {row['reason']}"] += 1
    return dict(counts.most_common())


def queued(
    traces: TraceFiles, index: Index, work: Work, decision: Decision, prepare: Prepare
) -> Iterator[Dispute]:
    """A dispute for each trace that a step drops for people to decide, by problem and sample."""
    asking = [number for number, step in enumerate(work.steps) if step.action == "queue"]
    places = np.flatnonzero(np.isin(decision.by, asking))
    if not len(places):
        return
    texts = {text.id: text for _, some in texts_at(traces, places) for text in prepare(some)}
    for drop in drops(traces, index, work, decision):
        if drop.trace_id in texts:
            text = texts[drop.trace_id]
            yield Dispute(
                trace_id=text.id,
                problem_id=text.problem_id,
                answer=text.answer or "",
                opinions={drop.step: f"{drop.reason}: {drop.detail}"},
            )


def drops(traces: TraceFiles, index: Index, work: Work, decision: Decision) -> Iterator[Drop]:
    """A drop for each trace that goes, by problem and sample."""
    names = labels(work.steps)
    every, ordered = _dropped(traces, index, work, decision)
    for begin in range(0, len(ordered), _ROWS):
        for row in every.take(ordered[begin : begin + _ROWS]).to_pylist():
            yield Drop(
                trace_id=index.ids[row["place"]].as_py(),
                step=names[row["step"]],
                reason=row["reason"],
                detail=row["detail"],
            )


def _dropped(
    traces: TraceFiles, index: Index, work: Work, decision: Decision
) -> tuple[pa.Table, Any]:
    """All that was dropped by any step, and the rows of it that count, by problem and sample."""
    parts = Parts(work.parts)
    tables = [
        parts.read(DROPPED, unit.number).select(["place", "step", "reason", "detail"])
        for unit in traces.units
    ]
    for number in range(len(work.steps)):
        if parts.has(_MARKED, number):
            marks = parts.read(_MARKED, number)
            own = pa.array(np.full(len(marks), number, np.int8))
            tables.append(marks.add_column(1, "step", own))
    every = pa.concat_tables(tables)
    places, steps = every.column("place").to_numpy(), every.column("step").to_numpy()
    rank = np.empty(traces.rows, np.int64)
    rank[index.order] = np.arange(traces.rows)
    valid = np.flatnonzero(decision.by[places] == steps)  # not of those that another took first
    return every, valid[np.argsort(rank[places[valid]])]
