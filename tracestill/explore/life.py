"""The life of one trace: where it came from, what each step said of it, and what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tracestill.records import (
    Drop,
    Kept,
    Learnt,
    Problem,
    Teacher,
    TraceText,
    Verdict,
    open_table,
    read_manifest,
    read_table,
)
from tracestill.records.layout import FUNNEL
from tracestill.records.texts import shortened

_SHOWN = 300  # characters of a text


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a trace: `what` in a word or two, and the line that says it."""

    what: str
    said: str


def life(run: Path, trace_id: str) -> list[Event]:
    """What happened to a trace of a run, in order, as far as the run has come. `trace_id` may be
    the beginning of one.

    Raises:
        ValueError: no trace has such an id, or more than one begins so.

    """
    trace, teacher = _found(run, trace_id)
    problems = read_table(run / "problems", "train", Problem)
    problem = next((one for one in problems if one.id == trace.problem_id), None)
    events = [Event(what="trace", said=trace.id)]
    if problem is not None:
        events.append(
            Event(what="problem", said=f"{problem.id}, {problem.source}: {_short(problem.prompt)}")
        )
        events.append(Event(what="reference", said=_short(problem.reference) or "(none)"))
    sampling = teacher.sampling
    events.append(
        Event(
            what="teacher",
            said=f"{teacher.model} by {teacher.engine} {teacher.engine_version}, temperature "
            f"{sampling.temperature:g}, sample {trace.sample}, {trace.completion_tokens:,} tokens, "
            f"finish {trace.finish}" + (f": {trace.error}" if trace.error else ""),
        )
    )
    events.append(Event(what="answer", said=_short(trace.answer or "(none)")))
    if read_manifest(run / "filter") is None:
        return [*events, Event(what="filter", said="has not come so far")]
    events += _verdict(run, trace.id)
    drop = next(
        (one for one in read_table(run / "filter", "drops", Drop) if one.trace_id == trace.id), None
    )
    events += _steps(run, drop)
    kept = trace.id in open_table(run / "filter", "kept", Kept).column("trace_id")
    assert kept == (drop is None), f"{trace.id} is both kept and dropped, or neither"
    return [*events, *_learnt(run, trace.id, kept)]


def _found(run: Path, trace_id: str) -> tuple[TraceText, Teacher]:
    """The trace and who wrote it."""
    table = open_table(run / "generate", "traces", TraceText)
    places = [p for p, own in enumerate(table.column("id")) if own.startswith(trace_id)]
    if not places or not trace_id:
        raise ValueError(f"{run} has no trace {trace_id}; run.traces() lists them")
    if len(places) > 1:
        several = ", ".join(table[place].id for place in places[:3])
        raise ValueError(f"{len(places)} traces begin with {trace_id}: {several}…; say more of it")
    trace = table[places[0]]
    written: Written = open_table(run / "generate", "traces", Written)[places[0]]
    return trace, written.teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Who wrote a trace, as a table's row."""

    teacher: Teacher


def _verdict(run: Path, trace_id: str) -> list[Event]:
    for verdict in read_table(run / "filter", "verdicts", Verdict):
        if verdict.trace_id == trace_id:
            found = f", {verdict.extracted!r}" if verdict.extracted is not None else ""
            said = f"{verdict.outcome}{found} by {verdict.verifier}: {_short(verdict.detail)}"
            return [Event(what="verdict", said=said)]
    return [Event(what="verdict", said="none: it has no answer")]


def _steps(run: Path, drop: Drop | None) -> list[Event]:
    """What each step of the filter said, up to the one that dropped the trace."""
    funnel = run / "filter" / FUNNEL
    if not funnel.is_file():  # runs of before there was one
        said = f"dropped, {drop.reason}: {drop.detail}" if drop else "kept"
        return [Event(what=drop.step if drop else "filter", said=said)]
    events: list[Event] = []
    for row in json.loads(funnel.read_text()):
        if drop is not None and row["step"] == drop.step:
            said = f"dropped, {drop.reason}: {drop.detail}"
            return [*events, Event(what=row["step"], said=said)]
        events.append(Event(what=row["step"], said="passed"))
    return events


def _learnt(run: Path, trace_id: str, kept: bool) -> list[Event]:
    if not kept:
        return [Event(what="student", said="was not given it")]
    if read_manifest(run / "finetune") is None:
        return [Event(what="student", said="is not trained yet")]
    for one in read_table(run / "finetune", "learnt", Learnt):
        if one.trace_id == trace_id:
            said = "was measured on it, and did not learn it" if one.heldout else "learnt it"
            return [Event(what="student", said=said)]
    return [Event(what="student", said="was not given it: it is too long, or can't be learnt")]


def _short(text: str) -> str:
    return shortened(text, _SHOWN)
