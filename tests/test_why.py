"""`tracestill why`, and a dry run of the filter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import run_tracestill

import tracestill
from tracestill.explore.life import life
from tracestill.records import read_manifest
from tracestill.records.figures import FilterFigures
from tracestill.records.layout import FUNNEL


def funnel(run: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((run / "filter" / FUNNEL).read_text())
    return rows


def told(run: Path, trace: str) -> dict[str, str]:
    return {event.what: event.said for event in life(run, trace)}


def test_a_traces_life_is_told_to_its_end(finished: Path) -> None:
    run = tracestill.load_run(finished)
    learnt = run.learnt()["trace_id"].iloc[0]
    events = told(finished, learnt)
    assert list(events)[:5] == ["trace", "problem", "reference", "teacher", "answer"]
    assert events["verdict"].startswith("correct")
    steps = ["refusal", "form", "verify", "quality", "language", "contamination", "exact", "near"]
    assert [events[step] for step in steps] == ["passed"] * len(steps)
    assert events["student"] == "learnt it"


def test_a_dropped_traces_life_ends_at_the_step_that_dropped_it(finished: Path) -> None:
    drop = tracestill.load_run(finished).drops().iloc[0]
    events = told(finished, drop["trace_id"])
    assert events[drop["step"]] == f"dropped, {drop['reason']}: {drop['detail']}"
    assert list(events)[-2:] == [drop["step"], "student"]
    assert events["student"] == "was not given it"


def test_the_command_takes_the_beginning_of_an_id(finished: Path) -> None:
    trace = tracestill.load_run(finished).drops()["trace_id"].iloc[0]
    done = run_tracestill("why", finished, trace[:12])
    assert done.returncode == 0, done.stderr
    assert trace in done.stdout
    assert "dropped, " in done.stdout


@pytest.mark.parametrize(("trace", "said"), [("zz", "has no trace zz"), ("", "has no trace")])
def test_a_trace_that_is_not_there_is_one_line(finished: Path, trace: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        life(finished, trace)


def test_an_id_that_begins_many_is_refused(finished: Path) -> None:
    ids = tracestill.load_run(finished).traces()["id"]
    first = next(c for c in "0123456789abcdef" if sum(i.startswith(c) for i in ids) > 1)
    with pytest.raises(ValueError, match=f"traces begin with {first}: .*say more of it"):
        life(finished, first)


def test_a_dry_run_shows_the_funnel_and_writes_nothing(copied: Path, recipe: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    done = run_tracestill("filter", recipe, "--out", copied, "--dry-run")
    assert done.returncode == 0, done.stderr
    run = tracestill.load_run(copied)
    kept, total = len(run.kept()), len(run.traces())
    assert f"kept {kept} of {total} traces; dropped" in done.stdout
    assert f"a sample of {total}; nothing was written" in done.stdout
    manifest = read_manifest(copied / "filter")
    assert manifest is not None
    assert isinstance(manifest.figures, FilterFigures)
    assert set(manifest.figures.seconds) == {row["step"] for row in funnel(copied)}
    (header,) = (line.split() for line in done.stdout.splitlines() if line.startswith("step "))
    assert header == ["step", "traces", "dropped", "share", "seconds"]
    few = run_tracestill("filter", recipe, "--out", copied, "--dry-run", "--sample", "5")
    assert "of 5 traces" in few.stdout
    other = ["--set", "filter.steps=[form, {select: {total: 3}}]"]
    chosen = run_tracestill("filter", recipe, "--out", copied, "--dry-run", *other)
    assert f"kept 3 of {total} traces" in chosen.stdout
    step = '{refusal: {action: keep, patterns: {all: ["."]}}}'
    counted = run_tracestill(
        "filter", recipe, "--out", copied, "--dry-run", "--set", f"filter.steps=[{step}]"
    )
    assert f"kept {total} of {total} traces" in counted.stdout
    assert "only counted: " in counted.stdout
    assert " refusal: all" in counted.stdout
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


def test_a_dry_run_without_traces_says_what_to_run_first(tmp_path: Path, recipe: Path) -> None:
    done = run_tracestill("filter", recipe, "--out", tmp_path / "run", "--dry-run")
    assert done.returncode == 1
    assert "run that stage first" in done.stderr
