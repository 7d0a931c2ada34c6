"""The filter over tables on disk: in units, in several processes, in any order, and resumed."""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_filter import problem, trace

from filter.filtering import Filtered, filter_table
from filter.near import near_twins
from filter.table import sample_of
from filter.words import grams, split_words
from tracestill.recipe.filter import FilterSection
from tracestill.records import Problem, Trace
from tracestill.records.progress import OnProgress, Progress, ignore_progress

PROBLEMS = [problem(f"What is {n} + {n}, and why so?", str(2 * n)) for n in range(12)]
BY_ID = {one.id: one for one in PROBLEMS}
# Every kind of step, some of them twice and one over all before one by row.
STEPS = [
    "form",
    "exact",
    "verify",
    {"select": {"by": "random", "per_problem": 5}},
    {"near": {"threshold": 0.6}},
    {"near": {"threshold": 0.5, "within": "all", "keep": ["shortest"]}},
    {"length": {"max_tokens": 80}},
    "contamination",
    {"select": {"by": "longest", "total": 20}},
]


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filter.table._UNIT_ROWS", 12)


def traces() -> list[Trace]:
    rng = random.Random(0)
    made = []
    for one, sample in itertools.product(PROBLEMS, range(9)):
        words = [f"w{rng.randrange(40)}" for _ in range(30)]
        if sample % 3 == 1:  # like the one before it, but for some words
            words = (made[-1].reasoning or "").split()
            words[rng.randrange(30)] = "other"
        if sample == 2 and len(made) > 9:  # of another problem
            words = (made[-9].reasoning or "").split()
        if sample == 8:
            words = (made[-8].reasoning or "").split()
        faults = {5: {"finish": "length", "answer": None}, 6: {"answer": "\\boxed{1}"}}
        tokens = rng.randrange(40, 90)
        row = {"reasoning": " ".join(words), "completion_tokens": tokens} | faults.get(sample, {})
        made.append(trace(one, sample, **row))
    return made


def written(folder: Path, rows: Sequence[Trace], each: int = 30) -> list[Path]:
    """The rows as files of `each`, in row groups of 6."""
    folder.mkdir()
    files = []
    for begin in range(0, len(rows), each):
        table = pa.Table.from_pylist(
            [dataclasses.asdict(row) for row in rows[begin : begin + each]]
        )
        files.append(folder / f"traces-{begin:04d}.parquet")
        pq.write_table(table, files[-1], row_group_size=6)
    return files


def run(
    files: Sequence[Path], folder: Path, workers: int = 1, progress: OnProgress = ignore_progress
) -> Filtered:
    settings = FilterSection.model_validate({"steps": STEPS, "workers": workers})
    held = [problem("Unlike the others, this asks for nothing.", "1")]
    return filter_table(files, BY_ID, held, settings, folder, progress)


def outcome(found: Filtered) -> dict[str, Any]:
    return {
        "kept": sorted(text.id for text in found.kept_texts()),
        "drops": list(found.drops()),
        "verdicts": {v.trace_id: v.outcome for v in found.verdicts()},
        "funnel": found.funnel,
        "dropped": found.dropped,
    }


def test_neither_processes_nor_order_change_what_is_found(
    tmp_path: Path, small_units: None
) -> None:
    rows = traces()
    one = outcome(run(written(tmp_path / "a", rows), tmp_path / "one"))
    assert all(dropped for step, (_, dropped) in one["funnel"].items() if step != "contamination")
    assert len(one["kept"]) == 20
    assert len(one["kept"]) + len(one["drops"]) == len(rows) == len(one["verdicts"]) + 12
    assert outcome(run(written(tmp_path / "b", rows), tmp_path / "two", workers=2)) == one
    random.Random(1).shuffle(rows)
    assert outcome(run(written(tmp_path / "c", rows, each=50), tmp_path / "three")) == one


@pytest.mark.parametrize("workers", [1, 2])
def test_the_time_of_each_step_is_known(tmp_path: Path, small_units: None, workers: int) -> None:
    files = written(tmp_path / "traces", traces())
    begun = time.monotonic()
    found = run(files, tmp_path / "parts", workers=workers)
    assert found.seconds.keys() == found.funnel.keys()
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert 0 < found.judging < time.monotonic() - begun
    again = run(files, tmp_path / "parts", workers=workers)
    # What was found about each trace before is not asked again: its time is that of then.
    own = {step: found.seconds[step] for step in ("form", "verify")}
    assert own.items() <= again.seconds.items()


class StoppedError(Exception):
    """What a test stops a filter with."""


@pytest.mark.parametrize("after", [3, 12])
def test_a_stopped_filter_goes_on_where_it_was(
    tmp_path: Path, small_units: None, after: int
) -> None:
    files = written(tmp_path / "traces", traces())
    whole = outcome(run(files, tmp_path / "whole"))
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if len(told) == after:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(files, tmp_path / "parts", progress=stop)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert len(made) >= after
    assert outcome(run(files, tmp_path / "parts")) == whole
    assert all(path.stat().st_mtime_ns == at for path, at in made.items())


def test_a_duplicate_names_a_trace_that_is_kept(tmp_path: Path, small_units: None) -> None:
    found = run(written(tmp_path / "traces", traces()), tmp_path / "parts")
    drops = list(found.drops())
    near = [drop for drop in drops if drop.reason == "near_duplicate"]
    gone_before = {d.trace_id for d in drops if d.step in ("form", "verify", "exact", "select")}
    assert near
    for drop in near:
        stands, similarity = drop.detail.removeprefix("of ").split(", similarity ")
        assert stands not in gone_before
        assert stands not in {other.trace_id for other in near if other.step == drop.step}
        assert float(similarity) >= 0.5


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_near_duplicates_are_those_that_comparing_all_pairs_finds(threshold: float) -> None:
    rng = random.Random(2)
    texts = []
    for length in [4, 8, 30, 120] * 12:
        words = [f"w{rng.randrange(300)}" for _ in range(length)]
        texts.append(" ".join(words))
        for share in (0.01, 0.03):
            copy = list(words)
            for _ in range(max(1, round(length * share))):
                copy[rng.randrange(length)] = f"x{rng.randrange(99)}"
            texts.append(" ".join(copy))
    crowd = [f"w{rng.randrange(300)}" for _ in range(100)]
    for _ in range(60):  # more than share a key for all pairs to be compared at once
        crowd[rng.randrange(100)] = f"y{rng.randrange(9999)}"
        texts.append(" ".join(crowd))
    rng.shuffle(texts)
    sets = [set(grams(split_words(text), 5)) or {tuple(split_words(text))} for text in texts]
    kept: list[int] = []
    dropped = set()
    for number, own in enumerate(sets):
        like = (len(own & sets[k]) / len(own | sets[k]) >= threshold for k in kept)
        if any(like):
            dropped.add(number)
        else:
            kept.append(number)
    twins = near_twins(texts, 5, threshold)
    assert {number for number, of in enumerate(twins.of) if of >= 0} == dropped
    assert 20 < len(dropped) < len(texts) - 20


def like(prompts: Sequence[str], tmp_path: Path, **near: Any) -> dict[str, str]:
    """The prompts whose trace goes, each with the reason's detail."""
    asked: list[Problem] = [problem(prompt, str(n)) for n, prompt in enumerate(prompts)]
    rows = [trace(one, reasoning=f"thought {n}") for n, one in enumerate(asked)]
    settings = FilterSection.model_validate({"steps": [{"near": near}], "workers": 1})
    files = written(tmp_path / "traces", rows)
    by_id = {one.id: one for one in asked}
    found = filter_table(files, by_id, [], settings, tmp_path / "parts", ignore_progress)
    prompt = {row.id: by_id[row.problem_id].prompt for row in rows}
    return {prompt[drop.trace_id]: drop.detail for drop in found.drops()}


def test_problems_that_differ_in_a_number_are_not_duplicates(tmp_path: Path) -> None:
    text = "A farmer has {} cows and sells some of them to a man who lives in the next valley"
    first, reworded = text.format(30), text.format(30) + " today"
    prompts = [first, reworded, text.format(31), text.format("30.5")]
    dropped = like(prompts, tmp_path, on="problem", threshold=0.8)
    assert list(dropped) == [reworded]
    assert dropped[reworded].startswith(f"its problem is like {problem(first, '0').id}")


def test_damaged_files_and_foreign_columns_are_one_line(tmp_path: Path) -> None:
    (good,) = written(tmp_path / "traces", traces()[:6])
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut\.parquet is damaged or no Parquet file"):
        run([cut], tmp_path / "parts")
    table = pq.read_table(good)
    lacking, other = tmp_path / "lacking.parquet", tmp_path / "other.parquet"
    pq.write_table(table.drop_columns("reasoning"), lacking)
    with pytest.raises(ValueError, match="no table of traces: it has no column reasoning"):
        run([lacking], tmp_path / "parts")
    numbers = pa.array([1] * len(table))
    pq.write_table(
        table.set_column(table.schema.get_field_index("answer"), "answer", numbers), other
    )
    with pytest.raises(ValueError, match="the column answer has int64, not text"):
        run([other], tmp_path / "parts")
    assert not list((tmp_path / "parts").glob("*")) if (tmp_path / "parts").exists() else True


def test_a_row_of_many_megabytes_is_dropped_and_the_others_are_judged(tmp_path: Path) -> None:
    long = trace(PROBLEMS[0], 0, reasoning="and so on " * 1_200_000)
    files = written(tmp_path / "traces", [long, trace(PROBLEMS[0], 1), trace(PROBLEMS[1], 0)])
    settings = FilterSection.model_validate({"workers": 1})
    found = filter_table(files, BY_ID, [], settings, tmp_path / "parts", ignore_progress)
    (drop,) = found.drops()
    assert (drop.trace_id, drop.reason) == (long.id, "unreadable")
    assert drop.detail == "a reasoning of 12,000,000 characters"
    assert found.kept == 2


def test_a_sample_is_from_all_over_the_table(tmp_path: Path) -> None:
    files = written(tmp_path / "traces", traces())
    path, total = sample_of(files, 36, tmp_path / "sample.parquet")
    assert total == 108
    of = pq.read_table(path).column("problem_id").to_pylist()
    assert len(of) == 36
    assert len(set(of)) >= 10  # of 12
    path, _ = sample_of(files, 1_000, tmp_path / "all.parquet")
    assert pq.read_metadata(path).num_rows == total


def test_no_traces_are_filtered_too(tmp_path: Path) -> None:
    empty = tmp_path / "empty.parquet"
    schema = pq.read_schema(written(tmp_path / "traces", traces()[:6])[0])
    pq.write_table(schema.empty_table(), empty)
    found = run([empty], tmp_path / "parts")
    assert (found.kept, found.dropped, list(found.drops())) == (0, {}, [])
