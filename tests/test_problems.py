"""Problems from every kind of source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from generate.problems import load_problems
from tracestill.recipe.problems import Buckets, FileSource, GymSource, HubSource
from tracestill.records import bucket


def gym(size: int = 20, seed: int = 0, **values: Any) -> GymSource:
    config = {"min_terms": 6, "max_terms": 9, "min_digits": 1, "max_digits": 1}
    return GymSource(
        source="reasoning_gym", family="chain_sum", size=size, seed=seed, config=config, **values
    )


def test_buckets_keep_splits_apart() -> None:
    train, dropped = load_problems([gym(buckets=Buckets(of=10, keep=[1]))])
    heldout, _ = load_problems([gym(buckets=Buckets(of=10, keep=[0]))])
    assert len(train) == len(heldout) == 20
    assert dropped["other_bucket"] > 20
    assert not {p.id for p in train} & {p.id for p in heldout}
    assert all(bucket(problem.prompt, 10) == 1 for problem in train)


def test_held_out_problems_are_never_paid_for() -> None:
    heldout, _ = load_problems([gym(size=10)])
    train, dropped = load_problems([gym(size=20)], exclude=heldout)
    assert dropped["held_out"] == 10
    assert not {p.prompt for p in train} & {p.prompt for p in heldout}


def test_the_same_problem_counts_once() -> None:
    problems, dropped = load_problems([gym(size=5), gym(size=5)])
    assert len({p.id for p in problems}) == len(problems) == 10
    assert dropped["duplicate"] == 5


def test_a_problem_file_with_mapped_columns(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [{"question": f"What is {n}+1?", "gold": n + 1} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"prompt": "question", "reference": "gold"}
    problems, _ = load_problems([FileSource(source="file", path=str(path), columns=columns)])
    assert [(p.prompt, p.reference, p.kind) for p in problems][:1] == [
        ("What is 0+1?", "1", "math")
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (GymSource(source="reasoning_gym", family="chain_sums", size=1), "no family 'chain_sums'"),
        (gym(size=1).model_copy(update={"config": {"min_terms": 9}}), "refuses the config"),
        (gym(size=1).model_copy(update={"config": {"nonsense": 9}}), "refuses the config"),
        (FileSource(source="file", path="/nowhere.jsonl"), "does not exist"),
    ],
)
def test_a_bad_source_is_named(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_problems([source])


def test_a_file_without_the_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"a": "x", "b": "y"}\n')
    with pytest.raises(ValueError, match=r"no column 'prompt', only a, b; map it with columns"):
        load_problems([FileSource(source="file", path=str(path))])


def test_a_data_set_on_the_hub_is_read_no_further_than_needed(tmp_path: Path) -> None:
    """A folder stands for the hub, which no test may reach."""
    (tmp_path / "data").mkdir()
    rows = [{"question": f"What is {n}+1?", "answer": f"It is\n#### {n + 1}"} for n in range(9)]
    for name, text in (
        ("test-00000", "".join(json.dumps(row) + "\n" for row in rows)),
        ("train-00000", "not JSON"),
    ):
        (tmp_path / "data" / f"{name}.jsonl").write_text(text)
    columns = {"prompt": "question", "reference": "answer"}
    asked = {"source": "hub", "dataset": str(tmp_path), "split": "test", "columns": columns}
    problems, _ = load_problems([HubSource.model_validate({**asked, "size": 3})])
    assert [problem.prompt for problem in problems] == [f"What is {n}+1?" for n in range(3)]
    assert problems[2].reference.endswith("#### 3")
    for wrong, message in (
        ({"split": "none"}, "can't be read from the hub"),
        ({"columns": {}}, "has no column 'prompt', only question, answer"),
        ({"size": 10}, "gave 9 of 10"),
    ):
        with pytest.raises(ValueError, match=message):
            load_problems([HubSource.model_validate({**asked, **wrong})])


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "x", "refer')
    with pytest.raises(ValueError, match=r"p\.jsonl can't be read"):
        load_problems([FileSource(source="file", path=str(path))])


def test_a_table_without_a_language_is_in_that_of_its_source_and_tests_are_json(
    tmp_path: Path,
) -> None:
    path = tmp_path / "problems.jsonl"
    row = {"prompt": "Addiere zwei Zahlen.", "reference": {"inputs": ["1 2"], "outputs": ["3"]}}
    path.write_text(json.dumps(row) + "\n")
    source = FileSource(source="file", path=str(path), kind="code", language="de")
    ((problem,), _) = load_problems([source])
    assert problem.language == "de"
    assert json.loads(problem.reference) == row["reference"]
