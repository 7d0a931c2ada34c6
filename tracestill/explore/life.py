"""The life of one trace: where it came from, what each step said of it, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
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

PASSED = "passed"
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
    events.append(
        Event(
            what="teacher",
            said=f"{teacher_said(teacher)}, sample {trace.sample}, "
            f"{trace.completion_tokens:,} tokens, finish {trace.finish}"
            + (f": {trace.error}" if trace.error else ""),
        )
    )
    events.append(Event(what="answer", said=_short(trace.answer or "(none)")))
    if read_manifest(run / "filter") is None:
        return [*events, Event(what="filter", said="has not come so far")]
    judged = read_table(run / "filter", "verdicts", Verdict)
    verdict = next((one for one in judged if one.trace_id == trace.id), None)
    events.append(Event(what="verdict", said=verdict_said(verdict)))
    drop = next(
        (one for one in read_table(run / "filter", "drops", Drop) if one.trace_id == trace.id), None
    )
    events += passed(steps_of(run), drop)
    kept = trace.id in open_table(run / "filter", "kept", Kept).column("trace_id")
    assert kept == (drop is None), f"{trace.id} is both kept and dropped, or neither"
    trained = read_manifest(run / "finetune") is not None
    heldout = _heldout(run, trace.id) if kept and trained else None
    said = student_said(kept=kept, trained=trained, heldout=heldout)
    return [*events, Event(what="student", said=said)]


def teacher_said(teacher: Teacher) -> str:
    """Who wrote a trace."""
    return (
        f"{teacher.model} by {teacher.engine} {teacher.engine_version}, temperature "
        f"{teacher.sampling.temperature:g}"
    )


def verdict_said(verdict: Verdict | None) -> str:
    """What the verifier said of a trace, None where it was not asked."""
    if verdict is None:
        return "none: it has no answer"
    found = f", {verdict.extracted!r}" if verdict.extracted is not None else ""
    return f"{verdict.outcome}{found} by {verdict.verifier}: {_short(verdict.detail)}"


def steps_of(run: Path) -> list[str]:
    """The filter's steps in their order; none in runs of before there was a `funnel.json`."""
    funnel = run / "filter" / FUNNEL
    return [row["step"] for row in json.loads(funnel.read_text())] if funnel.is_file() else []


def passed(steps: Sequence[str], drop: Drop | None) -> list[Event]:
    """What each step of the filter said of a trace, up to the one that dropped it."""
    said = f"dropped, {drop.reason}: {drop.detail}" if drop else "kept"
    if not steps:
        return [Event(what=drop.step if drop else "filter", said=said)]
    events: list[Event] = []
    for step in steps:
        if drop is not None and step == drop.step:
            return [*events, Event(what=step, said=said)]
        events.append(Event(what=step, said=PASSED))
    return events


def student_said(*, kept: bool, trained: bool, heldout: bool | None) -> str:
    """Whether the student learnt a trace; `heldout` is None for one that it was not given."""
    if not kept:
        return "was not given it"
    if not trained:
        return "is not trained yet"
    if heldout is None:
        return "was not given it: it is too long, or can't be learnt"
    return "was measured on it, and did not learn it" if heldout else "learnt it"


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


def _heldout(run: Path, trace_id: str) -> bool | None:
    learnt = read_table(run / "finetune", "learnt", Learnt)
    return next((one.heldout for one in learnt if one.trace_id == trace_id), None)


def _short(text: str) -> str:
    return shortened(text, _SHOWN)
