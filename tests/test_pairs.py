"""Preference pairs: which traces, as which texts, and that trl's DPOTrainer learns from them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, run_tracestill

from filter.pairs import RULES, Candidate, choose_pairs
from finetune.preference import open_reader, student_texts
from finetune.sample import Example
from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.loading import recipe_of_run
from tracestill.stages.pairs import write_pairs

RECIPE = """\
name: pairs
problems:
  heldout: [{{source: file, path: heldout.jsonl}}]
generate: {{engine: import, layout: table, path: traces.jsonl}}
finetune:
  student: {root}/miniature/student
  template: {root}/recipes/templates/miniature.jinja
  max_length: 512
"""
RULE = "correct_over_incorrect"


def candidate(of: str, number: int, **values: Any) -> Candidate:
    base: dict[str, Any] = {
        "finish": "stop", "tokens": 100, "outcome": "correct", "dropped": None,
    }  # fmt: skip
    return Candidate(id=f"{of}{number}", problem_id=of, **(base | values))


WRONG = {"outcome": "incorrect", "dropped": "incorrect"}
CUT = {"outcome": None, "finish": "length", "dropped": "truncated"}


def test_each_rule_takes_the_traces_that_it_says() -> None:
    traces = [
        candidate("a", 0, tokens=50),
        candidate("a", 1, tokens=100, dropped="near_duplicate"),
        candidate("a", 2, **WRONG),
        candidate("a", 3, outcome="incorrect", dropped="malformed"),
        candidate("a", 4, **CUT),
        candidate("a", 5, tokens=99, dropped="over_cap"),
        candidate("a", 6, outcome="unverifiable", dropped="unverifiable"),
    ]
    expected = dict(zip(RULES, ["a2", "a4", "a1"], strict=True))
    for rule, rejected in expected.items():
        (pair,) = choose_pairs(traces, [rule], per_problem=5).pairs
        assert (pair.rule, pair.chosen.id, pair.rejected.id) == (rule, "a0", rejected)
    both = [*traces, candidate("a", 7, tokens=40), candidate("a", 8, tokens=45)]
    found = choose_pairs(both, RULES, per_problem=5).pairs
    assert [pair.rule for pair in found] == list(RULES)
    ids = [one.id for pair in found for one in (pair.chosen, pair.rejected)]
    assert len(set(ids)) == len(ids)


def test_the_order_of_traces_changes_no_pair() -> None:
    rng = random.Random(0)
    traces = [
        candidate(problem, number, **(WRONG if number % 3 else {}), tokens=rng.randrange(50, 300))
        for problem in "abcdef"
        for number in range(9)
    ]
    first = choose_pairs(traces, per_problem=2, max_ratio=1.5)
    assert {pair.problem_id for pair in first.pairs} == set("abcdef")
    lengths = [sorted((pair.chosen.tokens, pair.rejected.tokens)) for pair in first.pairs]
    assert all(long <= 1.5 * short for short, long in lengths)
    for _ in range(3):
        rng.shuffle(traces)
        assert choose_pairs(traces, per_problem=2, max_ratio=1.5) == first


def test_problems_without_a_pair_are_counted_by_why() -> None:
    traces = [
        candidate("right", 0),
        candidate("wrong", 0, **WRONG),
        candidate("gone", 0, dropped="loop"),
        candidate("far", 0),
        candidate("far", 1, **WRONG, tokens=1_000),
        candidate("paired", 0),
        candidate("paired", 1, **WRONG),
    ]
    found = choose_pairs(traces, max_ratio=2)
    assert found.problems == 5
    assert [pair.problem_id for pair in found.pairs] == ["paired"]
    assert found.lacking == {
        "only pairs beyond --max-ratio": 1,
        "no correct trace that was kept": 1,
        "no incorrect trace that is well-formed": 1,
        "no correct trace": 1,
    }
    with pytest.raises(ValueError, match="forbids every pair of shorter_over_longer"):
        choose_pairs(traces, ["shorter_over_longer"], max_ratio=1.5)


# -- as the student reads them ---------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama-3", "r1-distill", "qwen2.5", "qwen3", "miniature"])
def test_trl_reads_the_ids_of_training(family: str, students: dict[str, Path]) -> None:
    template = ROOT / "recipes" / "templates" / f"{family}.jinja"
    settings = FinetuneSection(student=str(students[family]), template=str(template))
    reader = open_reader(settings, settings.student, template)
    example = Example(
        trace_id="t", prompt="What is 12 + 7?", reasoning="Okay, 12 + 7.\n\nSo", answer="19"
    )
    cut = Example(trace_id="c", prompt="What is 12 + 7?", reasoning="Okay, so 12", answer="")
    blank = Example(trace_id="b", prompt="What is 12 + 7?", reasoning="Okay", answer="")
    spoilt = Example(trace_id="s", prompt="1?", reasoning=f"a {reader.contract.stop} b", answer="1")
    whole, ended, none, bad = student_texts(
        reader, [example, cut, blank, spoilt], [True, False, True, True]
    )
    stop, closes = reader.contract.stop, reader.contract.closes
    assert whole is not None
    assert ended is not None
    assert (none, bad) == (None, None)
    assert (whole.same, ended.same) == (True, True)
    assert whole.completion == f"{reader.contract.opening}Okay, 12 + 7.\n\nSo{closes}19{stop}"
    assert ended.completion == f"{reader.contract.opening}Okay, so 12"
    bos = reader.tokenizer.bos_token
    ids = reader.tokenizer(text=whole.prompt + whole.completion)["input_ids"]
    assert not bos or ids.count(reader.tokenizer.bos_token_id) == 1


# -- of a run --------------------------------------------------------------------------------


def row(n: int, sample: int, result: int, **more: Any) -> dict[str, Any]:
    said = f"{n} and one, {'so ' * (sample + 1)}it is {result}."
    return {
        "prompt": f"What is {n} + 1?",
        "reference": str(n + 1),
        "response": f"<think>\n{said}\n</think>\n\nIt is \\boxed{{{result}}}.",
        "tokens": 20 + sample,
        **more,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to its filter: 6 problems with right and wrong traces, 1 with right ones alone."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [row(n, sample, n + 1 + (sample == 2)) for n in range(6) for sample in range(3)]
    rows += [row(6, 0, 7), row(6, 1, 7)]
    rows += [row(0, 9, 1, response="<think>\n0 and one, it is", finish="length", tokens=90)]
    (folder / "traces.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    heldout = {"prompt": "What is 50 + 1?", "reference": "51"}
    (folder / "heldout.jsonl").write_text(json.dumps(heldout))
    (folder / "pairs.yaml").write_text(RECIPE.format(root=ROOT))
    done = run_tracestill("filter", folder / "pairs.yaml", "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_the_command_writes_pairs_and_says_what_gave_none(run: Path, tmp_path: Path) -> None:
    done = run_tracestill("pairs", run)
    assert done.returncode == 0, done.stderr
    assert "6 pairs (6 correct_over_incorrect) of 6 of 7 problems" in done.stdout
    assert "no pair: 1 have no incorrect trace that is well-formed" in done.stdout
    assert "mean completion tokens: 2" in done.stdout
    assert "warning" not in done.stdout
    rows = pq.read_table(run / "pairs.parquet").to_pylist()
    lines = tmp_path / "pairs.jsonl"
    recipe = recipe_of_run(run)
    write_pairs(recipe, run, lines, [RULE], 1, None)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == rows
    for one in rows:
        assert one["prompt"].endswith("<|assistant|><think>\n")
        for side in ("chosen", "rejected"):
            assert " and one, so " in one[side]
            assert one[side].count("</think>") == one[side].count("<|end|>") == 1
            assert one[side].endswith("<|end|>")
    cut = write_pairs(recipe, run, lines, ["correct_over_truncated"], 1, None)
    (last,) = [json.loads(line) for line in lines.read_text().splitlines()]
    assert (cut.pairs, last["rejected"]) == (1, "0 and one, it is")


def test_what_can_be_no_pair_is_one_line(run: Path, tmp_path: Path) -> None:
    recipe = recipe_of_run(run)
    with pytest.raises(ValueError, match=r"no pair in 7 problems: .*Sample more of each"):
        write_pairs(recipe, run, tmp_path / "a.jsonl", ["shorter_over_longer"], 1, None)
    with pytest.raises(ValueError, match=r"must end in \.parquet or \.jsonl"):
        write_pairs(recipe, run, tmp_path / "a.csv", [RULE], 1, None)
    with pytest.raises(ValueError, match="has no finished filter"):
        write_pairs(recipe, tmp_path, tmp_path / "a.jsonl", [RULE], 1, None)
    assert not list(tmp_path.iterdir())
    done = run_tracestill("pairs", run, "--rule", "best")
    assert done.returncode == 1
    assert "--rule best: the rules are correct_over_incorrect, " in done.stderr


def test_trl_learns_from_them(run: Path, tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    path = tmp_path / "pairs.parquet"
    write_pairs(recipe_of_run(run), run, path, [RULE], 1, None)
    data = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path))
    student = ROOT / "miniature" / "student"
    tokenizer = AutoTokenizer.from_pretrained(student)
    tokenizer.eos_token = "<|end|>"  # as the export leaves it
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(student),
        args=DPOConfig(
            output_dir=str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=2,
            logging_steps=1, report_to=[], use_cpu=True, bf16=False, save_strategy="no",
        ),
        train_dataset=data,
        processing_class=tokenizer,
    )  # fmt: skip
    for one, text in zip(trainer.train_dataset, data, strict=True):
        learnt = tokenizer.decode(one["chosen_ids"])
        assert tokenizer.decode(one["prompt_ids"]) == text["prompt"]
        assert learnt == text["chosen"]
        assert " and one, so " in learnt
        assert one["chosen_ids"].count(tokenizer.convert_tokens_to_ids("<|end|>")) == 1
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(0.693, abs=0.01)  # log 2: the reference is the model itself
