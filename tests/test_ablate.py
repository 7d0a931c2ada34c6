"""`tracestill ablate`: what is made once, what is compared, and what a mistake says."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run_tracestill

from benchmarks.evidence import GRIDS, PAGE, page
from tracestill.evaluate.seeds import over_seeds, paired_effect
from tracestill.planning.ablation import plan_grid
from tracestill.recipe.errors import RecipeError
from tracestill.recipe.grid import Grid, folder_of, read_grid
from tracestill.recipe.loading import load_recipe
from tracestill.records import read_manifest
from tracestill.records.layout import STAGES
from tracestill.run.ablation import GridListener, plan_runs, run_grid
from tracestill.run.grid_results import RunFigures, result_of, write_result
from tracestill.run.listener import SILENT
from tracestill.run.sharing import adopt, take_journals

T2, T1 = 4.302652729911275, 12.706204736432095  # Student's t, 97.5%, two and one degrees of freedom
QUIET = GridListener(begin=lambda run, n: None, end=lambda run, f, s: None, stages=SILENT)


@pytest.fixture
def beside(finished: Path, tmp_path: Path) -> Path:
    """A grid's folder in which the finished run lies, as if an earlier grid had made it."""
    shutil.copytree(finished, tmp_path / "grid" / "runs" / "older")
    return tmp_path / "grid"


def recorded(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "ablation.json").read_text())
    return values


def states(out: Path) -> dict[str, int]:
    """When each stage was declared complete."""
    return {str(path): path.stat().st_mtime_ns for path in out.glob("runs/*/*/manifest.json")}


def test_a_mean_over_seeds_has_students_interval() -> None:
    found = over_seeds([0.5, 0.6, 0.7])
    assert found.ci95 is not None
    assert found.mean == pytest.approx(0.6)
    assert found.ci95 == pytest.approx((0.6 - T2 * 0.1 / 3**0.5, 0.6 + T2 * 0.1 / 3**0.5))
    assert found.note == ""
    two = over_seeds([0.5, 0.7])
    assert two.ci95 == pytest.approx((0.6 - T1 * 0.1, 0.6 + T1 * 0.1))
    assert "two seeds" in two.note
    one = over_seeds([0.5])
    assert (one.ci95, one.verdict) == (None, "not known")
    with pytest.raises(ValueError, match="at least one"):
        over_seeds([])


def test_an_effect_is_paired_and_its_interval_is_over_seeds() -> None:
    first = {(0, "a"): 0.2, (0, "b"): 0.6, (1, "a"): 0.3, (2, "a"): 0.4, (3, "a"): 0.9}
    other = {(0, "a"): 0.3, (0, "b"): 0.9, (1, "a"): 0.4, (2, "a"): 0.7, (4, "a"): 0.0}
    # Seed 0: the mean of 0.1 and 0.3; seeds 3 and 4 have no counterpart.
    by_seed = [0.2, 0.1, 0.3]
    found = paired_effect(first, other)
    assert found is not None
    assert found.ci95 is not None
    assert found.seeds == 3
    assert found.mean == pytest.approx(0.2)
    spread = math.sqrt(sum((value - 0.2) ** 2 for value in by_seed) / 2)
    assert found.ci95[0] == pytest.approx(0.2 - T2 * spread / 3**0.5)
    assert found.verdict == "no difference shown"
    assert paired_effect(first, {(9, "a"): 0.1}) is None
    better = paired_effect({(n, ""): 0.1 for n in range(3)}, {(n, ""): 0.5 for n in range(3)})
    worse = paired_effect({(n, ""): 0.5 for n in range(3)}, {(n, ""): 0.1 for n in range(3)})
    assert better is not None
    assert worse is not None
    assert (better.verdict, worse.verdict) == ("higher", "lower")


def made_up(grid: Grid, rates: dict[tuple[str, ...], float]) -> list[RunFigures]:
    """Runs with these pass rates, by seed and the values in the order of the keys."""
    return [
        RunFigures(
            labels=cell.labels,
            seed=seed,
            run=f"runs/{folder_of(cell, seed)}",
            pass_at_1=rates.get((str(seed), *cell.labels.values())),
            failed=None if (str(seed), *cell.labels.values()) in rates else "filter failed: x",
        )
        for seed in grid.seeds
        for cell in grid.cells()
    ]


def test_a_result_compares_each_value_with_the_first_of_its_key(
    recipe: Path, tmp_path: Path
) -> None:
    vary = ["finetune.epochs=1,2", "finetune.lora.rank=4,8"]
    grid = read_grid(recipe, vary, "2")
    rates = {
        ("0", "1", "4"): 0.1, ("0", "1", "8"): 0.2, ("0", "2", "4"): 0.3, ("0", "2", "8"): 0.5,
        ("1", "1", "4"): 0.2, ("1", "1", "8"): 0.2, ("1", "2", "4"): 0.4,
    }  # fmt: skip
    result = result_of(grid, made_up(grid, rates))
    epochs, rank = result.effects
    assert (epochs.key, epochs.first, epochs.value) == ("finetune.epochs", "1", "2")
    assert epochs.difference is not None
    assert rank.difference is not None
    assert epochs.difference.mean == pytest.approx(((0.2 + 0.3) / 2 + 0.2) / 2)
    assert rank.difference.mean == pytest.approx(((0.1 + 0.2) / 2 + 0.0) / 2)
    last = result.cells[-1]
    assert last.pass_at_1 is not None
    assert (last.pass_at_1.mean, last.pass_at_1.seeds) == (0.5, 1)
    write_result(tmp_path, grid, "evaluate", result)
    values = recorded(tmp_path)
    assert values["effects"][1]["verdict"] == "no difference shown"
    assert values["cells"][-1]["note"] == "one seed: no interval"
    assert [run["failed"] for run in values["runs"]].count("filter failed: x") == 1


@pytest.mark.parametrize(
    ("vary", "seeds", "expected"),
    [
        ("finetune.lora.rank", None, "write --vary section.key=value,value"),
        ("finetune.lora.rank=8", None, "give two values or more"),
        ("finetune.lora.rank=8,8", None, "8 is there twice"),
        ("finetune.lora.rank=[8", None, "not YAML"),
        ("seed=1,2", None, "--seeds"),
        ("finetune.lora.rank=4,8", "0", "write how many"),
        ("finetune.lora.rank=4,8", "three", "write how many"),
        ("finetune.lora.rank=4,8", "1,1", "one is there twice"),
        (
            "finetune.lora.rnk=4,8",
            None,
            "--vary: finetune.lora.rnk: unknown key; did you",
        ),
        ("finetune.lora.rank=4,no", None, "--vary: finetune.lora.rank: input should be"),
        ("evaluate.models=[student_before],[teacher]", None, "add student_after"),
    ],
)
def test_a_wrong_grid_is_one_line(
    recipe: Path, tmp_path: Path, vary: str, seeds: str | None, expected: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        plan_runs(read_grid(recipe, [vary], seeds), tmp_path, "evaluate")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_ends_the_command_before_anything_is_made(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid"
    done = run_tracestill("ablate", recipe, "--vary", "finetune.epochs=1,many", "--out", out)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("tracestill: --vary: finetune.epochs: ")
    assert not out.exists()


def test_values_are_yaml_and_groups_of_keys_have_names(recipe: Path, tmp_path: Path) -> None:
    grid = read_grid(recipe, ["filter.steps=[form],[form,{near: {threshold: 0.8}}]"], "3,7")
    assert grid.seeds == (3, 7)
    _, second = grid.cells()
    loaded = grid.load(second, 7)
    assert [step.name for step in loaded.filter.steps] == ["form", "near"]
    assert loaded.seed == 7
    path = tmp_path / "mine.yaml"
    said = {
        "recipe": str(recipe), "what": "Is it\n so?", "set": {"finetune.batch_size": 4}, "seeds": 2,
        "vary": {"traces": {"few": {"finetune.epochs": 4, "generate.samples": 1},
                            "many": {"finetune.epochs": 1, "generate.samples": 4}}},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(said))
    grid = read_grid(path, settings=["finetune.max_length=128"])
    assert (grid.name, grid.what, grid.seeds) == ("mine", "Is it so?", (0, 1))
    few = grid.load(grid.cells()[0], 1)
    assert (few.finetune.epochs, few.finetune.batch_size, few.finetune.max_length) == (4, 4, 128)
    assert few.generate.samples.max == 1  # type: ignore[union-attr]
    path.write_text(yaml.safe_dump({**said, "varied": {}}))
    with pytest.raises(RecipeError, match="varied: unknown key"):
        read_grid(path)


def test_a_plan_counts_what_is_shared_and_how_long_it_takes(
    recipe: Path, beside: Path, tmp_path: Path
) -> None:
    grid = read_grid(recipe, ["finetune.lora.rank=8,32", "filter.verify=true,false"], "2")
    plan = plan_grid(plan_runs(grid, tmp_path / "none", "evaluate"), tmp_path / "none", "evaluate")
    made = {stage.stage: stage.missing for stage in plan.stages}
    assert made == {"problems": 1, "generate": 2, "filter": 4, "finetune": 8, "evaluate": 8}
    assert plan.minutes is None
    plan = plan_grid(plan_runs(grid, beside, "evaluate"), beside, "evaluate")
    older = [read_manifest(beside / "runs" / "older" / stage) for stage in STAGES[:5]]
    seconds = sum(
        n * one.seconds for n, one in zip((1, 2, 4, 8, 8), older, strict=True) if one is not None
    )
    assert plan.minutes == pytest.approx(seconds / 60)


def test_equal_stages_are_taken_over_with_all_that_was_paid_for(
    recipe: Path, beside: Path, finished: Path
) -> None:
    # How many rows are in memory at once changes nothing: every stage is the older run's.
    options = ["--vary", "finetune.micro_batch=1,2", "--seeds", "1", "--out", beside]
    done = run_tracestill("ablate", recipe, *options)
    assert done.returncode == 0, done.stderr + done.stdout
    values = recorded(beside)
    assert values["stages"] == {"made": 5, "shared": 5}
    result = json.loads((finished / "summary.json").read_text())["evaluate"]["student_after"]
    for run in values["runs"]:
        assert run["pass_at_1"] == result["pass_at_1"]
        folder = beside / run["run"]
        assert not (folder / "logs").exists()  # no stage had a process
        for name in ("generate/journal.jsonl", "evaluate/teacher.journal.jsonl"):
            assert (folder / name).read_bytes() == (finished / name).read_bytes()
        shard, older = ("generate/traces-00000.parquet", beside / "runs" / "older")
        assert (folder / shard).samefile(older / shard)
        assert not (folder / "generate/journal.jsonl").samefile(older / "generate/journal.jsonl")
        assert (folder / "summary.json").is_file()
    assert "one seed: no interval" in done.stdout
    assert (beside / "ablation.png").read_bytes().startswith(b"\x89PNG")
    before = states(beside)
    again = run_tracestill("ablate", recipe, *options, "--plan")
    assert "Nothing is left to make" in again.stdout
    assert states(beside) == before


def test_a_failing_run_is_one_line_and_the_others_go_on(recipe: Path, beside: Path) -> None:
    options = [
        "--vary", "filter.max_tokens=1,null", "--vary", "finetune.micro_batch=1,2",
        "--seeds", "1", "--to", "filter", "--out", beside,
    ]  # fmt: skip
    done = run_tracestill("ablate", recipe, *options)
    assert done.returncode == 1
    first, second, last = done.stderr.strip().splitlines()
    assert first.startswith("max_tokens 1, micro_batch 1, seed 0: filter failed: ")
    assert "filter.log" in first
    assert "not tried: filter failed in " in second
    assert last.startswith("tracestill: ")
    assert "2 of 4 runs are not complete" in last
    runs = recorded(beside)["runs"]
    assert [bool(run["failed"]) for run in runs] == [True, True, False, False]
    assert [run["kept"] is not None for run in runs] == [False, False, True, True] or runs[2][
        "kept"
    ]
    journals = {path.read_bytes() for path in beside.glob("runs/*/generate/journal.jsonl")}
    assert len(journals) == 1  # the teacher was asked for nothing


def test_what_is_missing_alone_is_made_again_and_a_stop_keeps_the_rest(
    recipe: Path, beside: Path
) -> None:
    grid = read_grid(recipe, ["finetune.micro_batch=1,2"], "1")
    runs = plan_runs(grid, beside, "filter")

    def stop(run: Any, number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    stopped = GridListener(begin=stop, end=QUIET.end, stages=SILENT)
    with pytest.raises(KeyboardInterrupt):
        run_grid(grid, runs, beside, "filter", stopped)
    assert len(recorded(beside)["runs"]) == 1
    before = states(beside)
    result = run_grid(grid, runs, beside, "filter", QUIET)
    assert [run.failed for run in result.runs] == [None, None]
    with pytest.raises(KeyboardInterrupt):
        run_grid(grid, runs, beside, "filter", stopped)
    assert len(recorded(beside)["runs"]) == 2
    after = states(beside)
    assert {path: after[path] for path in before} == before
    (runs[0].folder / "filter" / "manifest.json").unlink()
    run_grid(grid, runs, beside, "filter", QUIET)
    changed = {path for path, when in states(beside).items() if after[path] != when}
    assert changed <= {str(runs[0].folder / "filter" / "manifest.json")}
    assert states(beside).keys() == after.keys()


def test_a_journal_comes_along_where_it_can_be_of_use(
    recipe: Path, finished: Path, tmp_path: Path
) -> None:
    def taken(*settings: str) -> bool:
        run = tmp_path / "-".join(settings)
        take_journals("generate", load_recipe(recipe, settings), run, [finished])
        return (run / "generate" / "journal.jsonl").exists()

    assert taken("generate.samples=5")
    assert taken("generate.max_tokens=300")
    assert not taken("generate.temperature=0.5")
    assert not taken("seed=1")
    assert not taken("generate.samples=5", "generate.budget.tokens=100000")
    run = tmp_path / "evaluated"
    take_journals("evaluate", load_recipe(recipe, ["finetune.epochs=1"]), run, [finished])
    names = {path.name for path in (run / "evaluate").iterdir()}
    assert names == {"student_before.journal.jsonl", "teacher.journal.jsonl"}


def test_a_journal_of_the_runs_own_is_never_lost(
    recipe: Path, finished: Path, tmp_path: Path
) -> None:
    loaded, run = load_recipe(recipe), tmp_path / "run"
    shutil.copytree(finished / "problems", run / "problems")
    whole = (finished / "generate" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    own = run / "generate" / "journal.jsonl"
    own.parent.mkdir()
    own.write_bytes(b"".join(reversed(whole)))
    assert adopt("generate", loaded, run, [finished]) is None
    assert own.read_bytes() == b"".join(reversed(whole))
    own.write_bytes(b"".join(whole[:7]))
    assert adopt("generate", loaded, run, [finished]) == finished
    assert own.read_bytes() == b"".join(whole)


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_grid_can_be_run(path: Path, tmp_path: Path) -> None:
    grid = read_grid(path, seeds="1")
    assert len(grid.what) > 20
    runs = plan_runs(grid, tmp_path, "evaluate")
    assert len({run.stages["evaluate"] for run in runs}) == len(runs) > 1
    apart = {stage for one in runs for stage in STAGES[:5]
             if one.stages[stage] != runs[0].stages[stage]}  # fmt: skip
    teacher = path.stem in (
        "until_correct", "problems_or_samples", "samples_or_epochs", "peers", "peers_longer",
    )  # fmt: skip
    assert ("generate" in apart) == teacher  # else all have the same teacher tokens


def test_the_page_of_evidence_is_what_the_records_say(recipe: Path, tmp_path: Path) -> None:
    assert PAGE.read_text() == page(), "python -m benchmarks.evidence writes it"
    grids, records = tmp_path / "grids", tmp_path / "records"
    grids.mkdir()
    records.mkdir()
    said = {"recipe": str(recipe), "what": "Do epochs help?", "seeds": 3,
            "vary": {"finetune.epochs": [1, 2]}}  # fmt: skip
    (grids / "epochs.yaml").write_text(yaml.safe_dump(said))
    (grids / "other.yaml").write_text(yaml.safe_dump({**said, "what": "Is it open?"}))
    grid = read_grid(grids / "epochs.yaml")
    rates = {(str(seed), value): 0.2 * int(value) + 0.01 * seed * int(value)
             for seed in range(3) for value in ("1", "2")}  # fmt: skip
    runs = made_up(grid, rates)
    write_result(records, grid, "evaluate", result_of(grid, runs[:2]))
    (records / "ablation.json").rename(records / "epochs.json")
    text = page(grids, records)
    assert "- **epochs 2** against 1: not known (one seed: no interval)" in text
    assert "- 4 of 6 runs are not made yet." in text
    write_result(records, grid, "evaluate", result_of(grid, runs))
    (records / "ablation.json").rename(records / "epochs.json")
    text = page(grids, records)
    # Differences 0.20, 0.21, 0.22: half the interval is 4.3027 * 0.01 / sqrt(3) = 0.0248.
    assert "| epochs | 2 | 1 | +21.0 | +18.5 to +23.5 | higher |" in text
    assert "- **epochs 2** against 1: better" in text
    assert "Is it open?\n\n**Not run yet**: 6 runs" in text
    (grids / "epochs.yaml").write_text(yaml.safe_dump({**said, "seeds": 4}))
    assert "other settings or seeds now" in page(grids, records)


@pytest.mark.slow
def test_a_whole_grid_compares_students(recipe: Path, tmp_path: Path) -> None:
    options = [
        "--vary", "filter.verify=true,false", "--seeds", "2", "--out", tmp_path,
        "--set", "evaluate.models=[student_after]", "--set", "finetune.epochs=1",
    ]  # fmt: skip
    done = run_tracestill("ablate", recipe, *options)
    assert done.returncode == 0, done.stderr + done.stdout
    values = recorded(tmp_path)
    runs = values["runs"]
    assert all(run["pass_at_1"] is not None and run["steps"] > 0 for run in runs)
    by_seed = {seed: [r["teacher_tokens"] for r in runs if r["seed"] == seed] for seed in (0, 1)}
    assert all(len(set(tokens)) == 1 for tokens in by_seed.values())
    assert by_seed[0] != by_seed[1]
    assert values["stages"]["made"] <= 1 + 2 + 4 + 4 + 4
    (effect,) = values["effects"]
    pairs = [
        r["pass_at_1"]
        for r in sorted(runs, key=lambda r: (r["seed"], r["labels"]["filter.verify"]))
    ]
    differences = [pairs[0] - pairs[1], pairs[2] - pairs[3]]  # false less true
    assert effect["difference"]["mean"] == pytest.approx(sum(differences) / 2)
    before = states(tmp_path)
    assert run_tracestill("ablate", recipe, *options).returncode == 0
    assert states(tmp_path) == before
