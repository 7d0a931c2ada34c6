"""The whole line as a user runs it, with the real engine, trainer and verifier."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import run_tracestill

import filter.verify
from tracestill.explore.load import load_run
from tracestill.explore.report import build
from tracestill.recipe.schema import Recipe
from tracestill.records import Drop, Trace, check_files, read_manifest, read_table
from tracestill.records import journal as journals
from tracestill.records.layout import REPORT, STAGES, Stage
from tracestill.run.fingerprint import fingerprint
from tracestill.run.pipeline import LINE


def summary(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return values


def made(stage: Stage, recipe: Recipe, run: Path) -> str:
    return fingerprint(LINE[stage], stage, recipe, run)


def reused(run: Path) -> dict[str, bool]:
    return {entry["name"]: entry["reused"] for entry in summary(run)["stages"]}


def test_a_run_has_every_part_and_adds_up(finished: Path) -> None:
    for entry in summary(finished)["stages"]:
        assert entry["rows_in"] == entry["rows_out"] + sum(entry["dropped"].values())
    assert [entry["name"] for entry in summary(finished)["stages"]] == list(STAGES)
    results = summary(finished)["evaluate"]
    assert list(results) == ["student_before", "student_after", "teacher"]
    for result in results.values():
        low, high = result["ci95"]
        assert 0 <= low <= result["pass_at_1"] <= high <= 1
        assert (result["problems"], result["samples"]) == (8, 8)
    page = (finished / "report.html").read_text()
    assert f"{results['student_after']['pass_at_1']:.1%}" in page
    versions = json.loads((finished / "provenance.json").read_text())["versions"]
    assert {"torch", "trl", "transformers"} <= versions.keys()
    text = (finished / "stdout.txt").read_text()
    for part in ("stage", "rows in", "base", "student", "teacher", "report.html"):
        assert part in text


def test_the_teacher_can_and_the_base_can_not(finished: Path) -> None:
    results = summary(finished)["evaluate"]
    assert results["teacher"]["pass_at_1"] > results["student_before"]["pass_at_1"]


def test_the_same_command_reuses_everything(finished: Path, recipe: Path, copied: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copied.rglob("*.parquet")}
    done = run_tracestill("run", recipe, "--out", copied)
    assert done.returncode == 0, done.stderr
    assert all(reused(copied).values())
    assert {p: p.stat().st_mtime_ns for p in copied.rglob("*.parquet")} == before
    assert summary(copied)["evaluate"] == summary(finished)["evaluate"]


@pytest.mark.parametrize(
    "lost",
    [
        *(
            pytest.param(f"finetune/{part}", marks=pytest.mark.slow)
            for part in ("merged", "adapter")
        ),
        "report.html",
    ],
)
def test_a_stage_that_lacks_something_is_made_again(recipe: Path, copied: Path, lost: str) -> None:
    path = copied / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    stage = "report" if lost == "report.html" else "finetune"
    assert f"incomplete: {lost}" in " ".join(run_tracestill("status", copied).stdout.split())
    done = run_tracestill("run", recipe, "--out", copied)
    assert done.returncode == 0, done.stderr
    remade = [name for name, kept in reused(copied).items() if not kept]
    # The same student comes out, to the bit; the report shows how long it took.
    assert remade == ([stage] if stage == "report" else [stage, "report"])
    assert path.exists()


def test_other_settings_of_how_to_sample_retrain_nothing(recipe: Path, copied: Path) -> None:
    options = ("--set", "generate.budget.tokens=10000000", "--set", "finetune.checkpoint_every=3")
    done = run_tracestill("run", recipe, "--out", copied, *options)
    assert done.returncode == 0, done.stderr
    assert all(reused(copied).values())


def test_a_filter_that_keeps_the_same_traces_retrains_nothing(recipe: Path, copied: Path) -> None:
    options = ("--set", "filter.max_per_problem=100")  # more than there are
    done = run_tracestill("run", recipe, "--out", copied, *options)
    assert done.returncode == 0, done.stderr
    assert (
        not {"filter": False, "finetune": True, "evaluate": True}.items() - reused(copied).items()
    )


def test_held_out_traces_are_not_said_to_be_learnt(finished: Path) -> None:
    entry = next(one for one in summary(finished)["stages"] if one["name"] == "finetune")
    learnt = load_run(finished).learnt()
    assert entry["dropped"]["held_out"] == learnt["heldout"].sum() > 0
    assert entry["rows_out"] == (~learnt["heldout"]).sum()


def test_a_filter_that_keeps_nothing_says_why_and_fails(recipe: Path, copied: Path) -> None:
    options = ("--set", "filter.max_tokens=1", "--to", "filter")
    done = run_tracestill("run", recipe, "--out", copied, *options)
    assert done.returncode == 1
    assert "filter failed: none of 60 traces is kept" in done.stderr
    assert "raise max_tokens of the filter's step `length`" in done.stderr
    assert len(list(read_table(copied / "filter", "drops", Drop))) == 60  # what was found is there
    again = run_tracestill("run", recipe, "--out", copied, *options)
    assert again.stderr == done.stderr


def test_a_run_of_format_2_is_still_read(finished: Path, copied: Path) -> None:
    for stage in STAGES:
        path = copied / stage / "manifest.json"
        values = json.loads(path.read_text())
        for name in ("files", "notes", "cut_short"):
            del values[name]
        for name in ("kept", "learnt"):
            values["tables"].pop(name, None)
        if "export" in values["details"]:
            values["details"] |= values["details"].pop("export")
        path.write_text(json.dumps(values | {"format": 2}))
    old, new = load_run(copied), load_run(finished)
    assert old.kept()["id"].tolist() == new.kept()["id"].tolist()
    assert old.training() == new.training()
    assert old.results() == new.results()
    assert build(copied).read_text().count("<svg") == (finished / REPORT).read_text().count("<svg")


def test_a_filter_option_leaves_generate_alone(recipe: Path, copied: Path) -> None:
    journal = (copied / "generate" / "journal.jsonl").read_bytes()
    options = ("--set", "filter.max_per_problem=1", "--to", "filter")
    done = run_tracestill("run", recipe, "--out", copied, *options)
    assert done.returncode == 0, done.stderr
    assert reused(copied) == {"problems": True, "generate": True, "filter": False}
    assert (copied / "generate" / "journal.jsonl").read_bytes() == journal
    # What follows is no longer what the settings ask for.
    assert "finetune" not in reused(copied)


def test_another_version_of_a_verifier_judges_anew(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.model_validate(load_run(finished).recipe)
    before = {stage: made(stage, recipe, finished) for stage in STAGES}
    monkeypatch.setattr(filter.verify, "verifier_names", lambda sandbox: ["math/another"])
    after = {stage: made(stage, recipe, finished) for stage in STAGES}
    assert {s for s in STAGES if before[s] != after[s]} == {"filter", "evaluate"}


def test_another_sandbox_judges_anew(finished: Path) -> None:
    recipe = Recipe.model_validate(load_run(finished).recipe)
    at_piston = recipe.filter.model_copy(update={"sandbox": "piston=http://localhost:2000"})
    moved = recipe.model_copy(update={"filter": at_piston})
    differ = {s for s in STAGES if made(s, recipe, finished) != made(s, moved, finished)}
    assert differ == {"filter", "evaluate"}


def test_from_makes_a_stage_anew(recipe: Path, copied: Path) -> None:
    done = run_tracestill("run", recipe, "--out", copied, "--from", "filter", "--to", "filter")
    assert done.returncode == 0, done.stderr
    assert reused(copied) == {"problems": True, "generate": True, "filter": False}


@pytest.mark.slow
def test_more_samples_reuse_what_was_paid_for(recipe: Path, copied: Path) -> None:
    journal = copied / "generate" / "journal.jsonl"
    old = journal.read_bytes()
    done = run_tracestill("generate", recipe, "--out", copied, "--set", "generate.samples=4")
    assert done.returncode == 0, done.stderr
    assert journal.read_bytes().startswith(old)
    assert len(list(journals.read(journal))) == 80
    assert len({row["id"] for row, _ in journals.read(journal)}) == 80


def test_a_half_written_shard_is_named_and_mended_from_the_journal(
    recipe: Path, copied: Path
) -> None:
    before = list(read_table(copied / "generate", "traces", Trace))
    shard = copied / "generate" / "traces-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:1000])
    done = run_tracestill("run", recipe, "--out", copied)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "traces-00000.parquet has 1,000 of" in done.stderr
    assert "damaged" in run_tracestill("status", copied).stdout
    (copied / "generate" / "manifest.json").unlink()
    done = run_tracestill("generate", recipe, "--out", copied)
    assert done.returncode == 0, done.stderr
    assert list(read_table(copied / "generate", "traces", Trace)) == before


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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--set", "generate.model=/nowhere/teacher"], "/nowhere/teacher does not exist"),
        (["--set", "generate.sampels=2"], "did you mean samples?"),
        (["--from", "sampling"], "the stages are problems, generate"),
        (["--from", "report", "--to", "filter"], "comes after"),
        (["--set", "problems.train.0.family=chain_sums"], "no family 'chain_sums'"),
    ],
)
def test_a_mistake_is_one_line(
    recipe: Path, tmp_path: Path, options: list[str], expected: str
) -> None:
    done = run_tracestill("run", recipe, "--out", tmp_path / "run", *options)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rum"], "No such command 'rum'"),
        (["run"], "Missing argument 'RECIPE'"),
        (["run", "x.yaml", "--form", "filter"], "No such option"),
        (["run", "x.yaml"], "there is no recipe x.yaml"),
        (["status", "nowhere"], "is no run"),
    ],
)
def test_a_mistyped_command_is_one_line(arguments: list[str], expected: str) -> None:
    done = run_tracestill(*arguments)
    assert done.returncode != 0
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_words_the_help_is_shown() -> None:
    done = run_tracestill()
    assert "Usage" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_a_student_with_another_vocabulary_is_one_line(
    recipe: Path, copied: Path, root: Path, tmp_path: Path
) -> None:
    before = {s: (copied / s / "manifest.json").read_bytes() for s in ("generate", "filter")}
    student = Path(shutil.copytree(root / "miniature" / "student", tmp_path / "student"))
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    options = ("--set", f"finetune.student={student}", "--to", "finetune")
    done = run_tracestill("run", recipe, "--out", copied, *options)
    assert done.returncode == 1
    assert "the tokenizer belongs to another model" in done.stderr
    assert "Traceback" not in done.stderr
    for stage in ("generate", "filter"):
        assert (copied / stage / "manifest.json").read_bytes() == before[stage]


@pytest.mark.parametrize(
    ("stage", "module"),
    [("generate", "vllm"), pytest.param("finetune", "trl", marks=pytest.mark.slow)],
)
def test_a_missing_extra_is_one_line(
    recipe: Path, copied: Path, tmp_path: Path, stage: str, module: str
) -> None:
    before = (copied / "generate" / "journal.jsonl").read_bytes()
    said = f"No module named {module!r}"
    hidden = f"raise ModuleNotFoundError({said!r}, name={module!r})\n"
    (tmp_path / f"{module}.py").write_text(hidden)
    changes = ("--set", "generate.samples=4") if stage == "generate" else ("--from", stage)
    done = run_tracestill("run", recipe, "--out", copied, *changes, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert f"{stage} failed: {module} is not installed: `make setup`" in done.stderr
    assert "Traceback" not in done.stderr
    assert (copied / "generate" / "journal.jsonl").read_bytes() == before


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


def test_status_tells_what_is_there(finished: Path, tmp_path: Path) -> None:
    done = run_tracestill("status", finished)
    assert done.stdout.count("complete") == len(STAGES)
    done = run_tracestill("status", tmp_path)
    assert done.returncode == 1
    assert "is no run" in done.stderr
