"""The whole line as a user runs it, with the real engine, trainer and verifier."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import run_tracestill

import filter.verify
from tracestill.explore.load import load_run
from tracestill.explore.report import build
from tracestill.recipe.schema import Recipe
from tracestill.records import Drop, Trace, read_table
from tracestill.records import journal as journals
from tracestill.records.layout import REPORT, STAGES, Stage
from tracestill.run.fingerprint import fingerprint
from tracestill.run.pipeline import LINE


def summary(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return values


def made(stage: Stage, recipe: Recipe, run: Path) -> str:
    return fingerprint(LINE[stage], stage, recipe, run, given=None)


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
    monkeypatch.setattr(filter.verify, "verifier_names", lambda rules: ["math/another"])
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


def test_status_tells_what_is_there(finished: Path, tmp_path: Path) -> None:
    done = run_tracestill("status", finished)
    assert done.stdout.count("complete") == len(STAGES)
    done = run_tracestill("status", tmp_path)
    assert done.returncode == 1
    assert "is no run" in done.stderr
