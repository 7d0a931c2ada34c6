from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest

from tracestill import records
from tracestill.records import (
    Drop,
    Journal,
    Manifest,
    Problem,
    Sampling,
    Teacher,
    Trace,
    open_table,
    problem_id,
    read_manifest,
    read_table,
    trace_id,
    write_manifest,
    write_table,
)
from tracestill.records import journal as journals

SAMPLING = Sampling(temperature=1.0, top_p=0.9, top_k=-1, max_tokens=64, seed=None)
TEACHER = Teacher(
    model="a/b", revision=None, content="c", engine="vllm", engine_version="0",
    quantisation=None, provider="local", sampling=SAMPLING,
)  # fmt: skip


def make_trace(number: int = 0) -> Trace:
    return Trace(
        id=f"t{number}", problem_id="p", sample=number, raw="x\u2028é", raw_reasoning=None,
        raw_token_ids=[1, 2],
        reasoning=None, answer="4", finish="stop", error=None, prompt_tokens=1,
        completion_tokens=2, teacher=TEACHER, seconds=0.5, cost=0.0,
    )  # fmt: skip


def manifest(**values: object) -> Manifest:
    base = {"stage": "x", "fingerprint": "f", "rows_in": 3, "rows_out": 3, "seconds": 1.0}
    return Manifest(**{**base, **values})  # type: ignore[arg-type]


def test_records_come_back_as_they_went_in(tmp_path: Path) -> None:
    traces = [make_trace(i) for i in range(3)]
    problem = Problem(
        id="p", prompt="q", reference="r", kind="math", source="s", meta={"a": [1, {"b": None}]}
    )
    tables = {
        "traces": write_table(tmp_path, "traces", Trace, traces),
        "problems": write_table(tmp_path, "problems", Problem, [problem]),
        "drops": write_table(tmp_path, "drops", Drop, []),
    }
    write_manifest(tmp_path, manifest(tables=tables))
    assert list(read_table(tmp_path, "traces", Trace)) == traces
    assert list(read_table(tmp_path, "problems", Problem)) == [problem]
    assert list(read_table(tmp_path, "drops", Drop)) == []


def test_shards_open_with_datasets(tmp_path: Path) -> None:
    write_table(tmp_path, "traces", Trace, [make_trace(i) for i in range(5)])
    table = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "traces-*.parquet"), split="train",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    assert table["id"][:] == [f"t{i}" for i in range(5)]
    assert table[0]["teacher"]["sampling"]["top_p"] == 0.9


def test_a_shorter_table_leaves_no_old_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records.tables, "SHARD_ROWS", 2)
    assert len(write_table(tmp_path, "traces", Trace, [make_trace(i) for i in range(5)])) == 3
    shards = write_table(tmp_path, "traces", Trace, [make_trace(0)])
    assert [p.name for p in tmp_path.glob("*.parquet")] == [shards[0].file]


def test_rows_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="3 rows in, but 1 kept"):
        write_manifest(tmp_path, manifest(rows_out=1, dropped={"a": 1}))
    assert read_manifest(tmp_path) is None


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    shards = write_table(tmp_path, "traces", Trace, [make_trace(i) for i in range(3)])
    write_manifest(tmp_path, manifest(tables={"traces": shards}))
    shard = tmp_path / shards[0].file
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"traces-00000\.parquet has 100 of .* delete .*manifest"):
        list(read_table(tmp_path, "traces", Trace))


def test_a_table_that_fails_midway_leaves_the_old_one(tmp_path: Path) -> None:
    old = write_table(tmp_path, "traces", Trace, [make_trace(0)])
    before = (tmp_path / old[0].file).read_bytes()

    def rows() -> object:
        yield make_trace(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_table(tmp_path, "traces", Trace, rows())  # type: ignore[arg-type]
    assert (tmp_path / old[0].file).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [old[0].file]


def test_identity_ignores_what_is_not_seen() -> None:
    assert problem_id("What is  2+2?\n", "4") == problem_id("What is 2+2?", " 4")
    assert problem_id("What is 2+2?", "4") != problem_id("What is 2+2?", "5")
    assert trace_id("p", "t", 0) != trace_id("p", "t", 1)


def test_journal_drops_a_torn_line_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        for number in range(3):
            journal.append({"n": number, "text": "a\nb\u2028"})
    whole = path.read_bytes()
    for cut in range(1, len(whole) // 3):
        path.write_bytes(whole[:-cut])
        assert [row["n"] for row, _ in journals.read(path)] == [0, 1]
        with Journal(path) as journal:
            journal.append({"n": 9})
        assert [row["n"] for row, _ in journals.read(path)] == [0, 1, 9]


def test_journal_offsets_lead_to_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        for number in range(20):
            journal.append({"n": number, "pad": "é" * number})
    with path.open("rb") as file:
        for row, offset in journals.read(path):
            file.seek(offset)
            assert json.loads(file.readline()) == row


def test_a_damaged_line_inside_a_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"n": 0}\nrubbish\n{"n": 2}\n')
    with pytest.raises(ValueError, match="line 2 is damaged"):
        list(journals.read(path))


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_loses_nothing_that_it_reported(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "j.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom tracestill.records import Journal\n"
        "with Journal(Path(sys.argv[1])) as j:\n"
        "    for n in range(10**9):\n"
        "        j.append({'n': n, 'text': 'x' * (n % 5000)})\n"
        "        print(n, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    child.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.0, 0.5))
    os.kill(child.pid, signal.SIGKILL)
    reported = child.stdout.read().split("\n")
    child.wait()
    last = int(reported[-2]) if len(reported) > 1 else 0
    numbers = [row["n"] for row, _ in journals.read(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= last + 1


def test_a_full_disk_is_told_and_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append({"n": 0})

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journals.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        journal.append({"n": 1})
    monkeypatch.undo()
    journal.close()
    assert [row for row, _ in journals.read(path)] == [{"n": 0}]


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_trace().raw = "y"  # type: ignore[misc]


def test_half_a_surrogate_pair_does_not_cost_a_table(tmp_path: Path) -> None:
    trace = dataclasses.replace(make_trace(), raw="a\ud800b", answer="\udfff")
    shards = write_table(tmp_path, "traces", Trace, [trace, make_trace(1)])
    assert shards[0].rows == 2
    table = pq.read_table(tmp_path / shards[0].file)
    assert table["raw"].to_pylist() == ["a?b", make_trace(1).raw]


KEYS = ("n", "finish")


def heads(path: Path) -> list[int]:
    """The numbers in a journal by its index, each checked against the line that it points at."""
    found = []
    with path.open("rb") as file:
        for (number, _), offset in journals.read_heads(path, KEYS):
            file.seek(offset)
            assert json.loads(file.readline())["n"] == number
            found.append(number)
    return found


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    path = tmp_path / "j.jsonl"
    with Journal(path, KEYS) as journal:
        for number in range(6):
            journal.append({"n": number, "finish": "stop", "pad": "é" * number})
    assert heads(path) == list(range(6))
    return path


def grow(path: Path, number: int) -> None:
    with Journal(path, KEYS) as journal:
        journal.append({"n": number, "finish": "stop"})


def test_an_index_is_read_instead_of_the_journal(indexed: Path) -> None:
    whole = indexed.read_bytes()
    lines = whole.splitlines(keepends=True)
    # What the index covers is not read again, but for its last line: here all others are rubbish.
    indexed.write_bytes(b"".join(b"x" * (len(line) - 1) + b"\n" for line in lines[:-1]) + lines[-1])
    assert [n for (n, _), _ in journals.read_heads(indexed, KEYS)] == list(range(6))


def replace_line(path: Path, number: int, line: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:number], line, *lines[number + 1 :]]))


@pytest.mark.parametrize(
    "harm",
    [
        lambda index, path: index.unlink(),
        lambda index, path: index.write_bytes(b""),
        lambda index, path: index.write_bytes(index.read_bytes()[:-3]),
        lambda index, path: index.write_bytes(index.read_bytes() + b'[9,9'),
        lambda index, path: index.write_bytes(b"".join(index.read_bytes().splitlines(True)[:3])),
        lambda index, path: index.write_bytes(b'["offset", "length", "other"]\n[0, 3, 1]\n'),
        lambda index, path: replace_line(index, 2, b""),
        lambda index, path: replace_line(index, 2, b"\0" * 20 + b"\n"),
        lambda index, path: replace_line(index, 6, b"\0" * 20 + b"\n"),
        lambda index, path: path.write_bytes(path.read_bytes() + b'{"n": 6}\n'),
    ],
)  # fmt: skip
def test_an_index_that_does_not_fit_is_made_up_from_the_journal(indexed: Path, harm: Any) -> None:
    harm(journals.index_path(indexed), indexed)
    there = heads(indexed)
    assert there[:6] == list(range(6))
    grow(indexed, 9)
    assert heads(indexed) == [*there, 9]
    index = journals.index_path(indexed).read_bytes().splitlines()
    assert len(index) == 1 + len(there) + 1


def test_a_line_taken_out_of_a_journal_is_taken_out_of_its_index(indexed: Path) -> None:
    lines = indexed.read_bytes().splitlines(keepends=True)
    indexed.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    assert heads(indexed) == [0, 1, 3, 4, 5]
    grow(indexed, 9)
    assert heads(indexed) == [0, 1, 3, 4, 5, 9]


def test_an_index_ahead_of_its_journal_is_cut(indexed: Path) -> None:
    indexed.write_bytes(indexed.read_bytes()[:-5])
    assert heads(indexed) == list(range(5))
    grow(indexed, 9)
    assert heads(indexed) == [*range(5), 9]


def test_a_table_as_a_sequence(tmp_path: Path) -> None:
    problems = [
        Problem(id=str(n), prompt=f"p{n}", reference="", kind="math", source="s")
        for n in range(2_500)
    ]
    shards = write_table(tmp_path, "train", Problem, iter(problems))
    write_manifest(
        tmp_path,
        Manifest(stage="problems", fingerprint="f", rows_in=2_500, rows_out=2_500, seconds=0.0,
                 tables={"train": shards}),
    )  # fmt: skip
    table = open_table(tmp_path, "train", Problem)
    assert len(table) == 2_500
    assert list(table) == problems
    assert [table[n] for n in (0, 999, 1_000, 2_499, 5, -1)] == [
        problems[n] for n in (0, 999, 1_000, 2_499, 5, -1)
    ]
    with pytest.raises(IndexError):
        table[2_500]
