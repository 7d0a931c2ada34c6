"""Benchmarks that training must not have seen: kept out of the problems, and out of the traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import run_tracestill
from test_filter import problem, trace
from test_filter_table import written

from filter.benchmarks import finder
from filter.filtering import filter_table
from tracestill.explore.report import build
from tracestill.recipe.filter import FilterSection
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.paths import check_paths
from tracestill.records import BenchmarkItem, Match, Problem, read_table
from tracestill.records.progress import ignore_progress

ITEM = (
    "A cyclist rides up a hill at 12 kilometres an hour and down again on the same road at 36. "
    "What is the mean speed of 2 such tours?"
)
TWIN = ITEM.replace("12", "10").replace("36", "40.5").replace("2 such", "3 such")
SHORT = "How many primes are below 50?"
CLEAN = "Anna has three times as many marbles as Ben, who has four more than Clara has."
ITEMS = [BenchmarkItem(benchmark="mine", id=str(n), text=t) for n, t in enumerate([ITEM, SHORT])]


def recipe(folder: Path, root: Path, prompts: list[str], decontaminate: dict[str, Any]) -> Path:
    rows = [{"prompt": prompt, "reference": str(n)} for n, prompt in enumerate(prompts)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "held.jsonl").write_text(json.dumps({"prompt": "What is 1 + 1?", "reference": "2"}))
    (folder / "bench.jsonl").write_text(
        "".join(json.dumps({"question": item.text}) + "\n" for item in ITEMS)
    )
    path = folder / "recipe.yaml"
    values = {
        "problems": {
            "train": [{"source": "file", "path": "problems.jsonl"}],
            "heldout": [{"source": "file", "path": "held.jsonl"}],
            "decontaminate": decontaminate,
        },
        "generate": {"model": f"{root}/miniature/teacher"},
        "finetune": {"student": f"{root}/miniature/student", "template": "miniature"},
    }
    path.write_text(json.dumps(values))
    return path


MINE = {"name": "mine", "source": "file", "path": "bench.jsonl", "column": "question"}


def test_no_token_is_paid_for_a_benchmarks_problem(tmp_path: Path, root: Path) -> None:
    prompts = [f"Think of this. {ITEM.upper()}", CLEAN, TWIN, f"Tell me: {SHORT} Be brief."]
    path = recipe(tmp_path, root, prompts, {"benchmarks": [MINE]})
    done = run_tracestill("run", path, "--out", tmp_path / "run", "--to", "problems")
    assert done.returncode == 0, done.stderr
    assert "3 contaminated" in done.stdout
    folder = tmp_path / "run" / "problems"
    assert [one.prompt for one in read_table(folder, "train", Problem)] == [CLEAN]
    matches = list(read_table(folder, "contaminated", Match))
    assert [(match.kind, match.item) for match in matches] == [
        ("run", "0"), ("renumbered", "0"), ("whole", "1"),
    ]  # fmt: skip
    assert matches[0].excerpt == ITEM.upper()
    assert matches[1].excerpt.startswith("A cyclist rides up a hill at 10 kilometres")
    assert matches[2].excerpt == SHORT
    assert {match.item_text for match in matches} == {ITEM, SHORT}
    page = build(tmp_path / "run").read_text()
    assert f"<td>{ITEM.upper()}</td><td>{ITEM}</td>" in page
    assert "<td>mine 1</td><td>as a whole</td>" in page


@pytest.mark.parametrize(
    ("benchmark", "said"),
    [
        ("maths-500", "known by name (aime24, aime25"),
        ({**MINE, "path": "nowhere.jsonl"}, "benchmarks.0.path: there is no file"),
    ],
)
def test_a_benchmark_that_is_not_there_is_named_before_the_run(
    tmp_path: Path, root: Path, benchmark: Any, said: str
) -> None:
    path = recipe(tmp_path, root, [CLEAN], {"benchmarks": [benchmark]})
    with pytest.raises(ValueError, match=r"problems\.decontaminate\.benchmarks\.0") as caught:
        check_paths(load_recipe(path))
    assert said in str(caught.value)


def test_a_column_that_is_not_there_is_one_line(tmp_path: Path, root: Path) -> None:
    path = recipe(tmp_path, root, [CLEAN], {"benchmarks": [{**MINE, "column": "problem"}]})
    done = run_tracestill("run", path, "--out", tmp_path / "run", "--to", "problems")
    assert done.returncode == 1
    assert "the benchmark mine has no column 'problem', only question" in done.stderr


def test_a_known_name_becomes_where_it_lies(tmp_path: Path, root: Path) -> None:
    path = recipe(tmp_path, root, [CLEAN], {"benchmarks": ["gsm8k"]})
    section = load_recipe(path).problems.decontaminate
    assert section is not None
    (one,) = section.benchmarks
    assert (one.name, one.source, one.column) == ("gsm8k", "hub", "question")


@pytest.mark.parametrize("workers", [1, 2])
def test_problems_and_traces_that_hold_an_item_are_dropped(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filter.table._UNIT_ROWS", 6)
    clean, twin = problem(CLEAN, "4"), problem(TWIN, "16")
    part = " ".join(ITEM.split()[:13])
    rows = [
        trace(clean, 0),
        trace(clean, 1, reasoning=f"This is like the one where {ITEM} But it is 4."),
        trace(clean, 2, reasoning=f"{part} something else, and so it is 4."),
        trace(clean, 3, answer=f"4, as in: {SHORT}"),
        *[trace(clean, n) for n in range(4, 9)],
        trace(twin, 0),
    ]
    settings = FilterSection.model_validate({"steps": ["contamination"], "workers": workers})
    found = filter_table(
        written(tmp_path / "traces", rows), {clean.id: clean, twin.id: twin}, [], settings,
        tmp_path / "parts", ignore_progress, benchmarks=finder(ITEMS, 13), renumbered=0.8,
    )  # fmt: skip
    details = {drop.trace_id: drop.detail for drop in found.drops()}
    assert list(details) == [rows[1].id, rows[3].id, rows[-1].id]
    assert details[rows[1].id].startswith("mine 0, has a part of it: A cyclist rides up")
    assert details[rows[1].id].endswith(f"| the item: {ITEM}")
    assert details[rows[3].id].startswith("mine 1, has it as a whole: How many primes")
    assert details[rows[-1].id].startswith("mine 0, is it with other numbers: A cyclist")
