"""Runs that are killed or stopped, and resumed."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import run_tracestill
from test_pipeline import summary

from tracestill.records import Trace, check_files, read_manifest, read_table
from tracestill.records import journal as journals
from tracestill.records.layout import STAGES, Stage


def tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def start(recipe: Path, run: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tracestill", "run", str(recipe), "--out", str(run)]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    for each in tree(process.pid):
        each.send_signal(signal.SIGKILL)
    process.wait()


def finished_ids(run: Path) -> set[str]:
    return {
        row["id"]
        for journal in run.rglob("*journal.jsonl")
        for row, _ in journals.read(journal)
        if row["finish"] in ("stop", "length", "skipped")
    }


def check_against(run: Path, finished: Path) -> None:
    """The run is complete, with each trace once and the sums of an undisturbed run."""
    assert [entry["name"] for entry in summary(run)["stages"]] == list(STAGES)
    for stage, table in (("generate", "traces"), ("evaluate", "teacher")):
        here = [trace.id for trace in read_table(run / stage, table, Trace)]
        assert len(here) == len(set(here))
        assert set(here) == {t.id for t in read_table(finished / stage, table, Trace)}
    for one, other in zip(summary(run)["stages"], summary(finished)["stages"], strict=True):
        assert one["rows_in"] == one["rows_out"] + sum(one["dropped"].values())
        if one["name"] in ("problems", "generate", "evaluate"):
            assert (one["rows_in"], one["rows_out"]) == (other["rows_in"], other["rows_out"])


@pytest.mark.slow
def test_a_kill_while_sampling_loses_nothing_finished(
    recipe: Path, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(recipe, run, "--to", "generate")
    journal = run / "generate" / "journal.jsonl"
    while not (journal.exists() and journal.stat().st_size > 0):
        assert process.poll() is None
        time.sleep(0.01)
    known = finished_ids(run)
    kill_tree(process)
    held = finished_ids(run)
    assert known <= held
    done = run_tracestill("run", recipe, "--out", run, "--to", "generate")
    assert done.returncode == 0, done.stderr
    rows = [row["id"] for row, _ in journals.read(journal)]
    assert len(rows) == len(set(rows)) == 60
    assert held <= set(rows)
    traces = {t.id: t for t in read_table(run / "generate", "traces", Trace)}
    assert traces.keys() == {t.id for t in read_table(finished / "generate", "traces", Trace)}


# A kill while training is tested more closely in test_training.py.
SLOW = {"finetune", "evaluate", "report"}


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(stage, marks=pytest.mark.slow) if stage in SLOW else stage
        for stage in STAGES
        if stage != "generate"
    ],
)
def test_a_stage_resumes_after_a_kill(
    recipe: Path, finished: Path, copied: Path, stage: Stage
) -> None:
    """Sampling has a test of its own above."""
    manifest = read_manifest(finished / stage)
    assert manifest is not None
    shutil.rmtree(copied / stage)
    log = copied / "logs" / f"{stage}.log"
    before = log.stat().st_mtime_ns
    process = start(recipe, copied, "--to", stage)
    while process.poll() is None and log.stat().st_mtime_ns == before:
        time.sleep(0.01)
    time.sleep(random.Random(stage).uniform(0.3, 0.9) * manifest.seconds)
    held = finished_ids(copied)
    kill_tree(process)
    assert held <= finished_ids(copied)
    done = run_tracestill("run", recipe, "--out", copied, "--to", stage)
    assert done.returncode == 0, done.stderr
    resumed = read_manifest(copied / stage)
    assert resumed is not None
    assert (resumed.rows_in, resumed.rows_out) == (manifest.rows_in, manifest.rows_out)
    check_files(copied / stage, resumed)
    if stage == "evaluate":
        assert held <= finished_ids(copied)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_from_nothing_resumes_after_kills_in_a_stage(
    recipe: Path, finished: Path, tmp_path: Path, stage: str
) -> None:
    run = tmp_path / "run"
    manifest = read_manifest(finished / stage)
    assert manifest is not None
    for attempt in range(2):
        process = start(recipe, run)
        begun = run / "logs" / f"{stage}.log"
        before = begun.stat().st_mtime_ns if begun.exists() else 0
        while process.poll() is None and not (begun.exists() and begun.stat().st_mtime_ns > before):
            time.sleep(0.01)
        time.sleep(random.Random(f"{stage}{attempt}").uniform(0, 1.2 * manifest.seconds))
        held = finished_ids(run)
        kill_tree(process)
        assert held <= finished_ids(run)
    done = run_tracestill("run", recipe, "--out", run)
    assert done.returncode == 0, done.stderr
    assert held <= finished_ids(run)
    check_against(run, finished)


def test_ctrl_c_stops_cleanly_and_keeps_what_was_finished(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "tracestill", "run", str(recipe), "--out", str(run)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell has what it starts in the background ignore Ctrl-C, the tests among it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not (run / "logs" / "generate.log").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.count("\n") == 1
    assert "stopped during generate; what was finished is kept" in error
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(run) in (p.info["cmdline"] or [])
    ]


def test_two_runs_in_one_folder_are_refused(recipe: Path, copied: Path) -> None:
    fd = os.open(copied / ".lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        done = run_tracestill("run", recipe, "--out", copied)
    finally:
        os.close(fd)
    assert done.returncode == 1
    assert "another tracestill" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(recipe: Path, tmp_path: Path) -> None:
    """A disk of 60 kB, which the journal fills."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        done = run_tracestill("generate", recipe, "--out", disk / "run")
        assert done.returncode == 1
        assert "no disk space is left" in done.stderr
        assert "Traceback" not in done.stderr
        held = finished_ids(disk / "run")
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        done = run_tracestill("generate", recipe, "--out", disk / "run")
        assert done.returncode == 0, done.stderr
        rows = [r["id"] for r, _ in journals.read(disk / "run" / "generate" / "journal.jsonl")]
        assert held <= set(rows)
        assert len(rows) == len(set(rows)) == 60
    finally:
        subprocess.run(["umount", str(disk)], check=True)
