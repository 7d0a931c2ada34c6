"""`tracestill curate`: single steps and lists of them on files of traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from conftest import run_tracestill

WORDS = " ".join(f"word{n}" for n in range(60))


def rows() -> list[dict[str, Any]]:
    made = []
    for n in range(6):
        wrong = n % 3 == 2
        answer = 7 if wrong else 2 * n
        response = f"<think>\nFirst {WORDS} and {n}.\n</think>\n\n\\boxed{{{answer}}}"
        made.append({"question": f"What is {n}+{n}?", "text": response, "reference": str(2 * n)})
    made.append({**made[0], "text": made[0]["text"].replace("word3 ", "word3 again ")})
    made.append({"question": "And?", "text": "<think>\nno end", "reference": "1"})
    return made


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "traces.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


NAMES = ["--column", "prompt=question", "--column", "response=text"]


def test_one_step_by_its_name(table: Path, tmp_path: Path) -> None:
    out, drops = tmp_path / "kept.jsonl", tmp_path / "drops.jsonl"
    done = run_tracestill(
        "curate", table, out, *NAMES, "--steps", "near: {threshold: 0.8}", "--drops", drops
    )
    assert done.returncode == 0, done.stderr
    (drop,) = map(json.loads, drops.read_text().splitlines())
    assert drop["reason"] == "near_duplicate"
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(kept) == 7
    assert kept[0]["prompt"] == "What is 0+0?"
    assert kept[0]["reasoning"].startswith("First word0")
    assert (kept[0]["answer"], kept[0]["reference"]) == ("\\boxed{0}", "0")
    assert "kept 7 of 8 traces; dropped 1 near_duplicate" in done.stdout
    assert done.stderr == ""


def test_the_default_list_and_parquet(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept.parquet"
    done = run_tracestill("curate", table.parent, out, *NAMES)
    assert done.returncode == 0, done.stderr
    kept = datasets.Dataset.from_parquet(str(out), cache_dir=str(tmp_path / "cache"))
    assert sorted(kept["reference"]) == ["0", "0", "2", "6", "8"]


def test_half_a_surrogate_pair_is_no_end(tmp_path: Path) -> None:
    source, row = tmp_path / "odd.jsonl", rows()[0]
    source.write_text(json.dumps({**row, "text": row["text"].replace("word3", "\ud83d")}) + "\n")
    for out in (tmp_path / "kept.parquet", tmp_path / "kept.jsonl"):
        done = run_tracestill("curate", source, out, *NAMES, "--steps", "form")
        assert done.returncode == 0, done.stderr
        assert out.is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "nearly"], "steps.0: 'nearly' is none of the steps refusal"),
        (["--steps", "[form"], "it is not YAML"),
        (["--steps", "form", "--selection", "s1"], "say it or --selection, not both"),
        (["--selection", "s2"], "s2 is none of those shipped"),
        (["--selection", "s1"], "a step depends on the student"),
        (["--layout", "mine"], "layout: Input should be"),
        (["--column", "prompt"], "write it as --column prompt=COLUMN"),
        (["--drops", "drops.csv"], "--drops drops.csv: the file's name must end in"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    table: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    out = tmp_path / "kept.jsonl"
    done = run_tracestill("curate", table, out, *NAMES, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_columns_that_are_not_there_are_named(table: Path, tmp_path: Path) -> None:
    done = run_tracestill("curate", table, tmp_path / "kept.jsonl")
    assert done.returncode == 1
    assert "prompt" in done.stderr
    missing = run_tracestill("curate", tmp_path / "nowhere", tmp_path / "kept.jsonl")
    assert missing.returncode == 1
    assert "there is no .parquet" in missing.stderr
