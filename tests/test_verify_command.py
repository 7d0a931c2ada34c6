"""`tracestill verify` as a user runs it."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_tracestill

import filter.verify
from filter.verify import Grade
from tracestill.evaluate.row_files import RESULTS
from tracestill.evaluate.verify_file import verify_file
from tracestill.records import Problem

Rows = list[dict[str, Any]]


def row(ident: str, completion: Any, **more: Any) -> dict[str, Any]:
    return {"id": ident, "kind": "choice", "reference": "C", "completion": completion} | more


ROWS = [
    row("right", "<think>A or B?</think>The answer is C."),
    row("wrong", "The answer is B."),
    row("only thought", "<think>The answer is C.</think>"),
    row("cut off", "<think>The answer is C"),
    row("by text", "\\boxed{Paris}", reference="Paris", choices=["Berlin", "Paris"]),
    row("in the prompt", "Paris", prompt="Which?\nA. Berlin\nB. Paris", reference="B"),
    row("bad gold", "C", reference="seven"),
    row("open", "an essay", kind="open", reference=""),
    row("unknown kind", "C", kind="riddle"),
    row("no kind", "C", kind=None),
    row("no completion", None),
    row("no reference", "C", reference=None),
    row("bad meta", "C", meta="{"),
    row("gym without meta", "\\boxed{1}", kind="reasoning_gym"),
]
OUTCOMES = {
    "right": "correct", "wrong": "incorrect", "only thought": "incorrect", "cut off": "incorrect",
    "by text": "correct", "in the prompt": "correct", "bad gold": "unverifiable",
    "open": "unverifiable", "unknown kind": "error", "no kind": "error", "no completion": "error",
    "no reference": "error", "bad meta": "error", "gym without meta": "error",
}  # fmt: skip


def write(path: Path, rows: Rows) -> Path:
    if path.suffix == ".parquet":
        names = dict.fromkeys(name for row in rows for name in row)
        pq.write_table(pa.Table.from_pylist([{n: r.get(n) for n in names} for r in rows]), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> Rows:
    if path.suffix == ".parquet":
        rows: Rows = pq.read_table(path).to_pylist()
        return rows
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_row_has_its_outcome(tmp_path: Path, suffix: str) -> None:
    source, target = write(tmp_path / f"in{suffix}", ROWS), tmp_path / "new" / f"out{suffix}"
    done = run_tracestill("verify", source, target)
    assert done.returncode == 0, done.stderr
    rows = read(target)
    assert {r["id"]: r["outcome"] for r in rows} == OUTCOMES
    for before, after in zip(ROWS, rows, strict=True):
        assert {k: after[k] for k in before} == before
        assert set(RESULTS) <= after.keys()
        assert after["seconds"] >= 0
        assert after["outcome"] == "correct" or after["detail"]
    assert rows[0]["extracted"] == "C"
    assert rows[0]["verifier"].startswith("choice/")
    for outcome, count in Counter(OUTCOMES.values()).items():
        assert f"{outcome} {count}" in " ".join(done.stdout.split())
    assert not list(target.parent.glob(".*"))


def test_math_and_reasoning_gym_are_judged_too(tmp_path: Path) -> None:
    import reasoning_gym

    entry = reasoning_gym.create_dataset("chain_sum", seed=3, size=1)[0]
    meta = {"family": "chain_sum", "config": {}, "entry": entry}
    gym = {
        "kind": "reasoning_gym",
        "reference": None,
        "completion": f"\\boxed{{{entry['answer']}}}",
    }
    rows = [
        {"id": 1, "kind": "math", "reference": 0.5, "completion": "\\boxed{\\frac12}"},
        {"id": 2, "meta": meta, **gym},
        {"id": 3, "meta": json.dumps(meta), **gym},
        {"id": 4, "meta": meta, **gym, "completion": "\\boxed{none}"},
    ]
    target = tmp_path / "out.jsonl"
    done = run_tracestill("verify", write(tmp_path / "in.jsonl", rows), target)
    assert done.returncode == 0, done.stderr
    assert [r["outcome"] for r in read(target)] == ["correct", "correct", "correct", "incorrect"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_columns_and_kind_can_be_named(tmp_path: Path, suffix: str) -> None:
    rows = [{"gold": "C", "output": "C", "n": 1}, {"gold": "C", "output": "D", "n": 2}]
    source, target = write(tmp_path / f"in{suffix}", rows), tmp_path / f"out{suffix}"
    done = run_tracestill(
        "verify", source, target, "--kind", "choice",
        "--column", "completion=output", "--column", "reference=gold",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [r["outcome"] for r in read(target)] == ["correct", "incorrect"]
    assert [r["n"] for r in read(target)] == [1, 2]


def test_a_line_that_is_no_object_is_a_row_and_a_second_pass_replaces_verdicts(
    tmp_path: Path,
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [
        json.dumps(row("a", "C")),
        "",
        "[1, 2]",
        json.dumps(row("b", "\ud800 The answer is C")),
        "null",
    ]
    source.write_text("\ufeff" + "\n".join(lines))
    assert run_tracestill("verify", source, target, "--quiet").stdout == ""
    assert [r["outcome"] for r in read(target)] == ["correct", "error", "correct", "error"]
    assert read(target)[1]["row"] == [1, 2]
    done = run_tracestill("verify", target, target)
    assert done.returncode == 0, done.stderr
    assert [r["outcome"] for r in read(target)] == ["correct", "error", "correct", "error"]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.touch()
    assert run_tracestill("verify", source, target).returncode == 0
    assert target.read_bytes() == b""


GOOD = json.dumps(row("a", "C")) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "more", "said"),
    [
        ("in.jsonl", None, (), "in.jsonl is no file"),
        ("in.csv", "id,kind\n", (), "neither .jsonl nor .parquet"),
        ("in.jsonl", GOOD + "{broken\n" + GOOD, (), "line 2 is not JSON"),
        ("in.jsonl", GOOD * 3000 + '{"id": \n', (), "line 3001 is not JSON"),
        ("in.jsonl", GOOD + "[" * 200_000 + "\n", (), "line 2 is not JSON"),
        ("in.parquet", GOOD, (), "can't be read as Parquet"),
        ("in.jsonl", GOOD, ("--column", "completion=output"), "has no column 'output'"),
        ("in.jsonl", '{"id": 1, "reference": "C", "completion": "C"}\n', (), "--kind"),
        ("in.jsonl", GOOD, ("--column", "answer=output"), "the columns are id, kind"),
        ("in.jsonl", GOOD, ("--column", "completion"), "--column completion=COLUMN"),
        ("in.jsonl", GOOD, ("--kind", "riddle"), "take one of math, choice"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: str | None, more: tuple[str, ...], said: str
) -> None:
    source = tmp_path / name
    target = tmp_path / f"out{source.suffix}"
    target.write_text("as it was")
    if content is not None:
        source.write_text(content)
    done = run_tracestill("verify", source, target, *more)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert target.read_text() == "as it was"
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_parquet_file_leaves_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", [row(str(n), f"{n} C " * 50) for n in range(3000)])
    data = bytearray(source.read_bytes())
    data[200 : len(data) // 2] = bytes(len(data) // 2 - 200)
    source.write_bytes(data)
    done = run_tracestill("verify", source, tmp_path / "out.parquet")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


@pytest.mark.parametrize("target", ["out.parquet", "out", "folder.jsonl"])
def test_a_target_that_cannot_be_written_is_one_line(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    done = run_tracestill("verify", write(tmp_path / "in.jsonl", ROWS), tmp_path / target)
    assert done.returncode == 1
    assert target in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_many_rows_pass_through_a_chunk_at_a_time(tmp_path: Path, suffix: str) -> None:
    essay = row("", "city " * 400, kind="open")  # 10 MB of text in all
    rows = [
        essay | {"id": str(n)} if n % 2 else row(str(n), f"The answer is {'CB'[n % 4 // 2]}.")
        for n in range(10_000)
    ]
    source, target = write(tmp_path / f"in{suffix}", rows), tmp_path / f"out{suffix}"
    del rows
    done_so_far: list[int] = []
    tracemalloc.start()
    counts = verify_file(source, target, {}, progress=done_so_far.append)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts == {"correct": 2_500, "incorrect": 2_500, "unverifiable": 5_000}
    assert len(done_so_far) > 5
    assert peak < 10_000_000
    assert [r["id"] for r in read(target)] == [str(n) for n in range(10_000)]


def test_tests_of_code_reach_the_verifier_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Problem, str | None]] = []

    def record(problem: Problem, answer: str | None) -> Grade:
        seen.append((problem, answer))
        if answer == "raise":
            raise ValueError("as asked")
        return Grade(outcome="correct")

    monkeypatch.setattr(filter.verify, "grader", lambda kind, rules: record)
    tests = {"inputs": ["1\n"], "outputs": ["2\n"]}
    rows = [
        row("object", "<think>x</think>print(2)", kind="code", reference=tests),
        row("text", "print(2)", kind="code", reference=json.dumps(tests)),
        row("fault", "raise", kind="code", reference=json.dumps(tests)),
    ]
    counts = verify_file(write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", {})
    assert [json.loads(problem.reference) for problem, _ in seen] == [tests] * 3
    assert sorted(answer or "" for _, answer in seen) == ["print(2)", "print(2)", "raise"]
    assert counts == {"correct": 2, "error": 1}
    assert read(tmp_path / "out.jsonl")[2]["detail"] == "ValueError: as asked"


def test_text_that_is_not_utf8_costs_one_row_of_a_table(tmp_path: Path) -> None:
    texts = pa.array([b"C", b"\xff C", b"B"]).cast(pa.binary())
    broken = pa.StringArray.from_buffers(3, texts.buffers()[1], texts.buffers()[2])
    table = pa.table({"kind": ["choice"] * 3, "reference": ["C"] * 3, "completion": broken})
    pq.write_table(table, tmp_path / "in.parquet")
    counts = verify_file(tmp_path / "in.parquet", tmp_path / "out.parquet", {})
    assert counts == {"correct": 1, "error": 1, "incorrect": 1}


def test_help_names_the_command() -> None:
    done = run_tracestill("verify", "--help")
    assert done.returncode == 0
    for word in ("IN", "OUT", "--column", "--kind"):
        assert word in done.stdout
    assert os.linesep in done.stdout
