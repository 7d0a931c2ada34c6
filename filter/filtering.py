"""The filter: judge every trace, then let the steps drop what the recipe does not want.

Traces are read from a table in units, and never more of them at once than a process works on. The
verdicts come first (`judging`); then, in several processes, the steps are asked about each trace by
itself (`measuring`); last, step by step in the recipe's order, it is decided what goes. What a unit
gave is kept on disk, so that a filter which was stopped goes on where it was.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filter.benchmarks import Finder
from filter.deciding import Decision, decide, drops, noted, queued, reasons
from filter.facts import facts_of
from filter.judging import RULED, SETTLED, Known, Settled, judge_all, settle_all
from filter.measuring import Prepare, Work, measure_all
from filter.parts import Parts
from filter.steps import labels
from filter.steps.step import Student
from filter.table import Index, TraceFiles, Unit, index, texts_at, trace_files, write_texts
from filter.verify.doubts import doubtful
from filter.verify.judge import Confirm
from tracestill.recipe.filter import FilterSection
from tracestill.recipe.selection import Select
from tracestill.records import AnyTrace, Dispute, Doubt, Drop, Mended, Problem, TraceText, Verdict
from tracestill.records.progress import OnProgress, Progress
from tracestill.records.verifier import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """What the filter found of the traces in a table.

    `funnel` maps each step, in order, to how many traces it was given and how many of them it
    dropped; `dropped` counts them by reason, the most frequent first; `noted` counts, as
    "step: reason", what was found by steps that drop nothing. `disputes` are the traces that people
    should decide, `doubts` the problems whose own reference does not verify as correct, `mended`
    those whose reference was replaced by what most samples say. `seconds` are what each step took,
    in all processes together, and `judging` what the verdicts took that were not there before.
    """

    total: int
    kept: int
    funnel: dict[str, tuple[int, int]]
    seconds: dict[str, float]
    judging: float
    dropped: dict[str, int]
    noted: dict[str, int]
    disputes: list[Dispute]
    doubts: list[Doubt]
    mended: list[Mended]
    verdicts: Callable[[], Iterator[Verdict]]
    """One for each trace with an answer, kept or not, in the order of the table."""
    drops: Callable[[], Iterator[Drop]]
    """One for each dropped trace, by problem and sample."""
    kept_texts: Callable[[], Iterator[TraceText]]
    """The kept traces as they are in the table, in its order."""
    stages: Callable[[], list[list[str]]]
    """The ids of the traces of each selection in `stages`, in the order of the table."""


def filter_table(
    files: Sequence[Path],
    problems: Mapping[str, Problem],
    heldout: Sequence[Problem],
    settings: FilterSection,
    folder: Path,
    progress: OnProgress,
    judge: Verifier | None = None,
    known: Known | None = None,
    prepare: Prepare | None = None,
    *,
    needs_reasoning: bool = True,
    benchmarks: Finder | None = None,
    renumbered: float | None = None,
    student: Student | None = None,
    pass_rates: Mapping[str, float | None] | None = None,
    confirm: Confirm | None = None,
    stages: Sequence[Select] = (),
    decided: Mapping[str, Verdict] | None = None,
) -> Filtered:
    """Judge the traces of `problems` (by id) in Parquet files and find out which the settings
    exclude. `folder` takes what is found, and must be there as long as the result is read; what an
    earlier call with the same arguments left there is used.

    `judge` (`filter.verify.judge`) is asked about what the rules leave open, and `confirm` about
    what a step finds that leaves it to a judge; without it all of that goes. `known` gives verdicts
    of an earlier stage: one by today's rules is not made again. `decided` are verdicts of people by
    trace id, above every rule and judge; of traces that are not there they are ignored, and steps
    that leave traces to people let those pass. `prepare` changes traces before they are looked at.
    Problems and traces that hold an item of `benchmarks` are contaminated, and problems that have
    the share `renumbered` of one with other numbers. Traces without reasoning are dropped if the
    student `needs_reasoning`. Steps that depend on the `student` ask it. `pass_rates` are the
    teacher's by problem, None where sampling ended too early to tell; without them they are the
    shares of its answers in the table that are right.
    `stages` are selections among the traces that all steps leave, each for itself.
    `progress` is told the traces that are done with; each is passed over twice. Neither the order
    of the traces nor the number of processes changes what is found.

    Raises:
        ValueError: a file is damaged, a trace's problem is not among the problems, two traces have
            one id, or a step needs a student and there is none.
        RuntimeError: a process can't be started.

    """
    asking = settings.asks_student or any(one.asks_student for one in stages)
    if asking and student is None:
        raise ValueError("filter.steps: a step depends on the student: give one, as `student`")
    traces = trace_files(files)
    parts, places = Parts(folder), index(traces, problems)
    told, decided = _told(traces.rows, progress), decided or {}
    begun = time.monotonic()
    for unit in judge_all(
        traces, problems, settings, parts, known or _none_known, decided, prepare or _as_they_are
    ):
        told(unit)
    settled = Settled(disputes=[], mended=[])
    verdicts = RULED
    if settings.agreement is not None or judge is not None:
        verdicts = SETTLED
        settled = settle_all(
            traces, problems, settings, parts, judge, _problems_of(decided, places, problems),
            prepare or _as_they_are,
        )  # fmt: skip
    judging = time.monotonic() - begun
    work = Work(
        parts=folder,
        steps=tuple(settings.steps),
        needs_reasoning=needs_reasoning,
        facts=facts_of(settings, problems, heldout, benchmarks, renumbered),
        verdicts=verdicts,
        student=student,
        stages=tuple(stages),
    )
    workers = settings.workers or len(os.sched_getaffinity(0))
    for unit in measure_all(work, traces.units, workers, prepare):
        told(unit)
    decision = decide(
        traces, places, list(problems.values()), work, pass_rates, confirm, prepare or _as_they_are
    )
    found = _filtered(
        traces, places, list(problems.values()), work, settled, decision, judging,
        prepare or _as_they_are,
    )  # fmt: skip
    progress(Progress(done=traces.rows, total=traces.rows, kept=found.kept))
    return found


def _told(rows: int, progress: OnProgress) -> Callable[[Unit], None]:
    """Tell the progress of two passes as that of one."""
    done = 0

    def told(unit: Unit) -> None:
        nonlocal done
        done += unit.rows
        progress(Progress(done=min(done // 2, rows - 1), total=rows))

    return told


def _problems_of(
    ids: Iterable[str], places: Index, problems: Mapping[str, Problem]
) -> frozenset[str]:
    """The problems that these traces answer, of those that are in the table."""
    found = pc.index_in(pa.array(list(ids), pa.string()), value_set=places.ids)
    names = list(problems)
    return frozenset(names[places.problems[place]] for place in found.drop_null().to_pylist())


def _none_known(ids: Sequence[str]) -> Mapping[str, Verdict]:
    return {}


def _as_they_are(traces: Iterable[TraceText]) -> Iterable[TraceText]:
    return traces


def _filtered(
    traces: TraceFiles,
    places: Index,
    problems: Sequence[Problem],
    work: Work,
    settled: Settled,
    decision: Decision,
    judging: float,
    prepare: Prepare,
) -> Filtered:
    parts, units = Parts(work.parts), [unit.number for unit in traces.units]
    gone = np.bincount(decision.by[decision.by >= 0], minlength=len(work.steps)).tolist()
    kept = np.flatnonzero(decision.by < 0)
    assert len(kept) + sum(gone) == traces.rows
    dropped = reasons(traces, places, work, decision)
    assert sum(dropped.values()) == sum(gone)
    asked = [problems[number] for number in np.unique(places.problems)]
    return Filtered(
        total=traces.rows,
        kept=len(kept),
        funnel=dict(zip(labels(work.steps), zip(decision.entered, gone, strict=True), strict=True)),
        seconds=dict(zip(labels(work.steps), decision.seconds, strict=True)),
        judging=judging,
        dropped=dropped,
        noted=noted(traces, work, decision),
        disputes=[*settled.disputes, *queued(traces, places, work, decision, prepare)],
        mended=settled.mended,
        doubts=doubtful(asked),
        verdicts=lambda: parts.records(work.verdicts, units, Verdict),
        drops=lambda: drops(traces, places, work, decision),
        kept_texts=lambda: (text for _, some in texts_at(traces, kept) for text in some),
        stages=lambda: [
            [places.ids[int(place)].as_py() for place in one] for one in decision.stages
        ],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterResult:
    """What the filter made of its traces, each list in the order of problems and samples.

    A trace is in `kept` (ids) or has exactly one of `drops`. The others are as in `Filtered`.
    """

    verdicts: list[Verdict]
    disputes: list[Dispute]
    doubts: list[Doubt]
    mended: list[Mended]
    drops: list[Drop]
    kept: list[str]
    funnel: dict[str, tuple[int, int]]
    dropped: dict[str, int]
    noted: dict[str, int]


def filter_traces(
    traces: Iterable[AnyTrace],
    problems: Mapping[str, Problem],
    heldout: Sequence[Problem],
    settings: FilterSection,
    progress: OnProgress,
    judge: Verifier | None = None,
    known: Mapping[str, Verdict] | None = None,
    *,
    needs_reasoning: bool = True,
    student: Student | None = None,
    confirm: Confirm | None = None,
    decided: Mapping[str, Verdict] | None = None,
) -> FilterResult:
    """Filter traces that are in memory, in this process: see `filter_table`. `known` and `decided`
    are verdicts by trace id.

    Raises:
        ValueError: a trace's problem is not among the problems, or two traces have one id.
        RuntimeError: a worker's process can't be started.

    """
    known = known or {}
    order = {problem: number for number, problem in enumerate(problems)}
    ordered = sorted(traces, key=lambda t: (order.get(t.problem_id, -1), t.sample, t.id))
    with tempfile.TemporaryDirectory() as temporary:
        table = write_texts(Path(temporary) / "traces.parquet", ordered)
        found = filter_table(
            [table], problems, heldout, settings.model_copy(update={"workers": 1}),
            Path(temporary) / "parts", progress, judge,
            lambda ids: {trace: known[trace] for trace in ids if trace in known},
            needs_reasoning=needs_reasoning, student=student, confirm=confirm, decided=decided,
        )  # fmt: skip
        return FilterResult(
            verdicts=list(found.verdicts()),
            disputes=found.disputes,
            doubts=found.doubts,
            mended=found.mended,
            drops=list(found.drops()),
            kept=[text.id for text in found.kept_texts()],
            funnel=found.funnel,
            dropped=found.dropped,
            noted=found.noted,
        )
