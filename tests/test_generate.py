"""Traces of the real engine on the miniature teacher: what is asked, kept and identified."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from asking import Asked, never
from test_problems import gym

from generate.job import teacher_fingerprint
from generate.problems import load_problems
from generate.teacher import as_teacher
from generate.vllm_engine import Model, VllmEngine
from tracestill.recipe.models import LocalModel, ServedModel
from tracestill.records import Problem, Sampling, Teacher, problem_id
from tracestill.records import journal as journals


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_teacher_is_the_same_wherever_it_runs() -> None:
    """Pinned: were it to change, nothing that earlier runs paid for would be found again."""
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=8, seed=0)
    teacher = Teacher(
        model="a", revision=None, content="c", engine="vllm", engine_version="1",
        quantisation=None, provider="local", sampling=sampling,
    )  # fmt: skip
    assert teacher_fingerprint(teacher, None) == "72628fc9fe9daa3000c5"
    elsewhere = dataclasses.replace(teacher, provider="api.example.com", model="b/a")
    assert teacher_fingerprint(elsewhere, None) == "72628fc9fe9daa3000c5"
    other = dataclasses.replace(teacher, content="d")
    assert teacher_fingerprint(other, None) != "72628fc9fe9daa3000c5"


def test_options_that_change_what_is_sampled_make_another_teacher(root: Path) -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=8, seed=0)

    def identity(**options: Any) -> str:
        section = (
            ServedModel(engine="openai", model="m", base_urls=["http://127.0.0.1:1/v1"], **options)
            if "extra_body" in options or not options
            else LocalModel(model=str(root / "miniature" / "teacher"), **options)
        )
        return teacher_fingerprint(as_teacher(section, sampling), None)

    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    assert identity() == identity(extra_body={}) == "c1fec1c4678ecf06c77a"
    assert len({identity(), identity(extra_body=thinking), identity(extra_body={"n": 1})}) == 3
    local = identity(engine_args={})
    assert identity(engine_args={"tensor_parallel_size": 8, "max_num_seqs": 4}) == local
    assert identity(engine_args={"kv_cache_dtype": "fp8"}) != local
    assert identity(engine_args={"hf_overrides": {"a": 1}, "enforce_eager": True}) == identity(
        engine_args={"hf_overrides": {"a": 1}}
    )


def test_a_missing_model_is_named() -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=8, seed=0)
    with pytest.raises(ValueError, match="the model folder /nowhere/teacher does not exist"):
        VllmEngine(Model(path="/nowhere/teacher"), sampling)


def test_a_truncated_trace_goes_on_from_its_tokens(ask: Asked, tmp_path: Path) -> None:
    """At temperature 0 what was cut and continued is, token for token, what is made at once."""
    problems, _ = load_problems([gym(size=4)])
    whole = ask(problems, max_tokens=120, temperature=0.0)
    (tmp_path / "journal.jsonl").unlink()
    cut = ask(problems, max_tokens=25, temperature=0.0)
    assert {trace.finish for trace in cut} == {"length"}
    on = ask(problems, max_tokens=120, temperature=0.0)
    assert [t.raw_token_ids for t in on] == [t.raw_token_ids for t in whole]
    assert [(t.raw, t.reasoning, t.answer) for t in on] == [
        (t.raw, t.reasoning, t.answer) for t in whole
    ]
    rows = [row for row, _ in journals.read(tmp_path / "journal.jsonl")]
    paid = sum(row["new_tokens"] for row in rows)
    assert paid == sum(trace.completion_tokens for trace in whole)
    # Each pays its prompt twice, and its tokens once.
    assert [t.cost for t in on] == pytest.approx(
        [(2 * t.prompt_tokens + 2 * t.completion_tokens) / 1e6 for t in whole]
    )


@pytest.mark.slow
def test_vllm_starts_where_the_filters_compiled_code_was_loaded_first(root: Path) -> None:
    teacher = str(root / "miniature" / "teacher")
    script = (
        "from filter.near import near_twins\n"
        "assert near_twins(['a b c', 'a b c'], 2, 0.9).of.tolist() == [-1, 0]\n"
        "from vllm.engine.arg_utils import EngineArgs\n"
        f"EngineArgs(model={teacher!r}, max_model_len=64).create_engine_config()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
