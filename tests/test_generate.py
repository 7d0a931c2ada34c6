"""Problems and traces, with the real engine on the miniature teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from generate.config import Buckets, FileSource, GymSource, Prices
from generate.engine import Engine
from generate.problems import load_problems
from generate.run import sample
from generate.vllm_engine import Model, VllmEngine
from tracestill.records import Problem, Sampling, Teacher, Trace, bucket, problem_id
from tracestill.records import journal as journals


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


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "x", "refer')
    with pytest.raises(ValueError, match=r"p\.jsonl can't be read"):
        load_problems([FileSource(source="file", path=str(path))])


# -- the engine -----------------------------------------------------------------------------

Asked = Callable[..., list[Trace]]


@pytest.fixture
def ask(root: Path, tmp_path: Path) -> Asked:
    """Sample the miniature teacher through a journal that stays from call to call."""

    def asked(
        problems: list[Problem], samples: int = 1, max_tokens: int = 200, engine: Any = None
    ) -> list[Trace]:
        sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=max_tokens, seed=0)
        teacher = Teacher(
            model="teacher", revision=None, content="c", engine="vllm", engine_version="",
            quantisation=None, provider="local", sampling=sampling,
        )  # fmt: skip
        model = Model(path=str(root / "miniature" / "teacher"), max_model_len=256)

        def opened() -> Engine:
            return VllmEngine(model, sampling)

        return list(
            sample(
                problems, samples=samples, teacher=teacher, system_prompt=None, seed=0,
                open_engine=engine or opened, journal=tmp_path / "journal.jsonl",
                prices=Prices(prompt=1.0, completion=2.0), progress=lambda event: None,
            )
        )  # fmt: skip

    return asked


def never() -> Engine:
    raise AssertionError("everything was in the journal, yet the engine was opened")


def test_what_is_in_the_journal_is_never_asked_again(ask: Asked, tmp_path: Path) -> None:
    problems, _ = load_problems([gym(size=12)])
    first = ask(problems)
    assert len(first) == 12
    assert all(t.raw_token_ids and t.completion_tokens == len(t.raw_token_ids) for t in first)
    assert all("<|end|>" not in t.raw for t in first)
    assert any(t.finish == "stop" and t.reasoning and "boxed" in (t.answer or "") for t in first)
    cost = (first[0].prompt_tokens + 2 * first[0].completion_tokens) / 1e6
    assert first[0].cost == pytest.approx(cost)

    assert ask(problems, engine=never) == first
    assert {t.id for t in ask(problems[::-1], engine=never)} == {t.id for t in first}

    # A torn last line costs that one response, and nothing is asked twice.
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    more, _ = load_problems([gym(size=15)])
    again = ask(more, samples=2)
    assert len(again) == 30
    ids = [row["id"] for row, _ in journals.read(journal)]
    assert sorted(ids) == sorted({t.id for t in again})
    same = {t.id: t.raw for t in first[:11]}
    assert sum(t.raw == same.get(t.id) for t in again) >= 11


def test_truncated_traces_are_rows_and_asked_again_with_a_larger_budget(
    ask: Asked, tmp_path: Path
) -> None:
    problems, _ = load_problems([gym(size=6)])
    short = ask(problems, max_tokens=20)
    assert {t.finish for t in short} == {"length"}
    assert all(t.answer is None and t.completion_tokens == 20 for t in short)
    assert [t.id for t in ask(problems, max_tokens=10, engine=never)] == [t.id for t in short]
    long = ask(problems, max_tokens=200)
    assert [t.id for t in long] == [t.id for t in short]
    assert any(t.finish == "stop" for t in long)


def test_a_prompt_that_fills_the_context_is_a_row(ask: Asked) -> None:
    prompt = "1 + " * 400
    problem = Problem(
        id=problem_id(prompt, "1"), prompt=prompt, reference="1", kind="math", source="s"
    )
    good, _ = load_problems([gym(size=2)])
    traces = ask([good[0], problem, good[1]])
    assert [t.finish == "skipped" for t in traces] == [False, True, False]
    assert "max_model_len" in (traces[1].error or "")


def test_a_missing_model_is_named() -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=8, seed=0)
    with pytest.raises(ValueError, match="the model folder /nowhere/teacher does not exist"):
        VllmEngine(Model(path="/nowhere/teacher"), sampling)
