"""The kept traces as a table that other programs open, and what it means for runs of before."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import datasets
from kept_run import make_run, row

from tracestill.explore.life import life
from tracestill.explore.load import load_run
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    Kept,
    KeptContent,
    TraceText,
    read_manifest,
    read_table,
    write_manifest,
    write_table,
)
from tracestill.records.progress import ignore_progress
from tracestill.run.fingerprint import fingerprint, reusable
from tracestill.run.pipeline import LINE, make_stage
from tracestill.stages.examples import kept_examples, kept_rows

WRONG = {"response": "<think>\nHm.\n</think>\n\nIt is \\boxed{0}."}


def as_before(run: Path) -> None:
    """Write the filter's table as versions did that knew no more than which traces were kept."""
    folder = run / "filter"
    manifest = read_manifest(folder)
    assert manifest is not None
    rows = list(read_table(folder, "kept", KeptContent))
    tables = {**manifest.tables, "kept": write_table(folder, "kept", KeptContent, rows)}
    write_manifest(folder, dataclasses.replace(manifest, tables=tables))


def needed(recipe: Recipe, run: Path) -> str:
    """What decides whether a finished training is made again."""
    return fingerprint(LINE["finetune"], "finetune", recipe, run, given=None)


def test_datasets_opens_the_kept_traces_as_they_are_learnt(tmp_path: Path) -> None:
    rows = [row(number) for number in range(5)]
    rows[2] |= WRONG
    recipe, run = make_run(tmp_path, rows)
    files = f"{run}/filter/kept-*.parquet"
    opened = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert set(opened.column_names) == {field.name for field in dataclasses.fields(Kept)}
    assert opened["prompt"] == [f"What is {number} + 1?" for number in (0, 1, 3, 4)]
    assert opened["reference"] == ["1", "2", "4", "5"]
    assert opened["source"] == [f"traces/{parity}" for parity in ("even", "odd", "odd", "even")]
    assert set(opened["language"]) == {"en"}
    assert opened[0]["reasoning"].strip() == "Take 0. Add one."
    assert opened[0]["answer"].strip() == "It is \\boxed{1}."
    traces = {one.id: one.problem_id for one in read_table(run / "generate", "traces", TraceText)}
    assert [traces[one] for one in opened["trace_id"]] == opened["problem_id"]
    examples = kept_examples(recipe, run)
    for name in ("trace_id", "prompt", "reasoning", "answer", "source", "language"):
        assert [getattr(one, name) for one in examples] == opened[name]


def test_the_student_learns_from_the_kept_table_alone(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, [row(number) for number in range(3)])
    before = kept_examples(recipe, run)
    for shard in (run / "generate").glob("*.parquet"):
        shard.unlink()
    assert kept_examples(recipe, run) == before


def test_a_run_of_before_goes_on_and_trains_nothing_again(tmp_path: Path) -> None:
    rows = [row(number) for number in range(5)]
    rows[3] |= WRONG
    recipe, run = make_run(tmp_path, rows)
    new, examples, kept = needed(recipe, run), kept_examples(recipe, run), load_run(run).kept()
    whole = list(kept_rows(recipe, run))
    as_before(run)
    assert reusable(LINE["filter"], "filter", recipe, run)
    assert kept_examples(recipe, run) == examples
    assert list(kept_rows(recipe, run)) == whole
    assert load_run(run).kept()["id"].tolist() == kept["id"].tolist()
    assert any(event.said == "passed" for event in life(run, whole[0].trace_id))
    assert needed(recipe, run) == new, "what was trained before the table grew stays good"
    make_stage("filter", recipe, run, ignore_progress)
    assert needed(recipe, run) == new
    assert list(read_table(run / "filter", "kept", Kept)) == whole


def test_what_was_learnt_decides_and_not_the_other_columns(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, [row(number) for number in range(3)])
    folder, before = run / "filter", needed(recipe, run)
    rows = list(read_table(folder, "kept", Kept))
    manifest = read_manifest(folder)
    assert manifest is not None
    for changed, same in (({"reference": "other"}, True), ({"content": "other"}, False)):
        written = [dataclasses.replace(rows[0], **changed), *rows[1:]]
        shards = write_table(folder, "kept", Kept, written, content=KeptContent)
        tables = {**manifest.tables, "kept": shards}
        write_manifest(folder, dataclasses.replace(manifest, tables=tables))
        assert (needed(recipe, run) == before) == same
