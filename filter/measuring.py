"""Ask the steps about a unit of traces: in this process, or in several."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from filter.hashing import Hashes
from filter.parts import Parts
from filter.steps import Facts, build_step
from filter.steps.selection import SelectStep
from filter.steps.step import GlobalStep, ProblemFacts, Student
from filter.table import Unit, read_unit
from tracestill.recipe.filter_steps import Step
from tracestill.recipe.selection import Select
from tracestill.records import AnyTrace, Drop, TraceText, Verdict
from tracestill.records.decisions import PERSON

Prepare = Callable[[Iterable[TraceText]], Iterable[TraceText]]
MEASURED, DROPPED, NOTED, SECONDS = "measured", "dropped", "noted", "seconds"
_FIELDS: list[Any] = [
    pa.field("place", pa.int64()),
    pa.field("step", pa.int8()),
    pa.field("reason", pa.string()),
    pa.field("detail", pa.string()),
]
_DROPPED = pa.schema(_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a process must know to ask the steps about units."""

    parts: Path
    steps: tuple[Step, ...]
    needs_reasoning: bool
    facts: ProblemFacts
    verdicts: str
    """The kind of parts that hold the verdicts of a unit."""
    student: Student | None
    stages: tuple[Select, ...] = ()
    """The selections of a training's stages, each among what the steps leave. They are measured
    like steps that come last."""


def measure_all(
    work: Work, units: Sequence[Unit], workers: int, prepare: Prepare | None
) -> Iterator[Unit]:
    """Ask about these units, write for each what was `MEASURED`, what is `DROPPED`, what is only
    `NOTED`, and the `SECONDS` of each step, and yield it when it is done. `prepare` changes traces
    before they are looked at; it keeps the work in this process.

    Raises:
        ValueError: a file is damaged.

    """
    lacking = [unit for unit in units if not Parts(work.parts).has(DROPPED, unit.number)]
    yield from (unit for unit in units if unit not in lacking)
    if workers == 1 or len(lacking) < 2 or prepare is not None:
        for unit in lacking:
            yield _measure(work, unit, prepare)
        return
    # Not forked: this process has threads, of Arrow and of the verifiers.
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(lacking))
    with ProcessPoolExecutor(count, context, initializer=_begin, initargs=(work,)) as processes:
        try:
            yield from processes.map(_measure_here, lacking)
        finally:
            processes.shutdown(wait=True, cancel_futures=True)


_work: Work | None = None  # of a process that `measure_all` started


def _begin(work: Work) -> None:
    global _work
    _work = work


def _measure_here(unit: Unit) -> Unit:
    assert _work is not None, "a process begins with its work"
    return _measure(_work, unit)


def column(step: int, name: str, number: int) -> str:
    """How a measured column is called in a unit's file."""
    return f"{step}.{name}.{number}"


def _measure(work: Work, unit: Unit, prepare: Prepare | None = None) -> Unit:
    parts = Parts(work.parts)
    verdicts = {v.trace_id: v for v in parts.records(work.verdicts, [unit.number], Verdict)}
    decided = {trace for trace, verdict in verdicts.items() if verdict.verifier == PERSON}
    facts = Facts(problems=work.facts, verdicts=verdicts, student=work.student)
    steps = [
        build_step(step, number, needs_reasoning=work.needs_reasoning, facts=facts)
        for number, step in enumerate(work.steps)
    ]
    steps += [SelectStep(select) for select in work.stages]
    measured = {
        column(number, name, one): np.zeros(unit.rows, np.uint64)
        for number, step in enumerate(steps)
        if isinstance(step, GlobalStep)
        for name, width in step.widths().items()
        for one in range(width)
    }
    dropped: list[tuple[int, int, Drop]] = []
    noted: list[tuple[int, int, Drop]] = []
    seconds = [0.0] * len(steps)
    first = 0
    for batch in read_unit(unit):
        traces = list(prepare(batch)) if prepare is not None else batch
        live: list[tuple[int, AnyTrace]] = list(enumerate(traces, first))
        for number, step in enumerate(steps):
            begun = time.perf_counter()
            if isinstance(step, GlobalStep):
                if live:
                    _fill(measured, number, step.measure([trace for _, trace in live]), live)
            elif work.steps[number].action in ("keep", "judge"):
                rows = {trace.id: row for row, trace in live}
                found = step([trace for _, trace in live])
                noted += [(rows[one.trace_id], number, one) for one in found]
            else:
                asked = [trace for _, trace in live]
                if work.steps[number].action == "queue":
                    asked = [trace for trace in asked if trace.id not in decided]
                drops = {drop.trace_id: drop for drop in step(asked)}
                dropped += [(row, number, drops[t.id]) for row, t in live if t.id in drops]
                live = [(row, trace) for row, trace in live if trace.id not in drops]
            seconds[number] += time.perf_counter() - begun
        first += len(batch)
    parts.write(
        MEASURED,
        unit.number,
        pa.table({name: pa.array(values) for name, values in measured.items()}),
    )
    parts.write(SECONDS, unit.number, pa.table({"seconds": pa.array(seconds, pa.float64())}))
    parts.write(NOTED, unit.number, _table(unit, noted))
    parts.write(DROPPED, unit.number, _table(unit, dropped))
    return unit


def _table(unit: Unit, found: Iterable[tuple[int, int, Drop]]) -> pa.Table:
    rows = [
        {"place": unit.first + row, "step": step, "reason": drop.reason, "detail": drop.detail}
        for row, step, drop in found
    ]
    return pa.Table.from_pylist(rows, _DROPPED)


def _fill(
    measured: Mapping[str, Hashes],
    step: int,
    found: Mapping[str, Hashes],
    live: Sequence[tuple[int, AnyTrace]],
) -> None:
    rows = [row for row, _ in live]
    for name, values in found.items():
        for one in range(values.shape[1]):
            measured[column(step, name, one)][rows] = values[:, one]
