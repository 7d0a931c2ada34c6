"""How well traces suit a student: ranks, surprisals, local naturalness, and choosing by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, run_tracestill

import tracestill
from finetune.sample import Example, Sample
from finetune.scoring import Scorer, steps
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records.progress import ignore_progress

STUDENT = str(ROOT / "miniature" / "student")
TEMPLATE = ROOT / "recipes" / "templates" / "miniature.jinja"


def settings(**values: Any) -> FinetuneSection:
    return FinetuneSection(student=STUDENT, template=str(TEMPLATE), max_length=512, **values)


EXAMPLES = [
    Example(
        trace_id=str(n),
        prompt=f"State the final answer to the following arithmetic problem: {n} + 2 =",
        reasoning=f"Take {n}. Add 2: that makes {n + 2}.\nSo it is {n + 2}.",
        answer=str(n + 2),
    )
    for n in range(1, 9)
]


def by_hand(example: Example) -> tuple[float, float, int]:
    """Mean rank, mean surprisal and number of a trace's learnt tokens, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    tokenizer.chat_template = TEMPLATE.read_text()
    chat = [{"role": "user", "content": example.prompt}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    from finetune.prepare import prepare

    (sample,) = prepare([example], settings(), STUDENT, TEMPLATE).rendered.samples
    assert sample.input_ids[: sample.prompt].tolist() == prompt
    model = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    ids = torch.tensor(sample.input_ids.tolist())
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    ranks, surprisals = [], []
    for place in range(sample.prompt, len(ids)):
        row = logits[place - 1].double()
        ranks.append(min(100, int((row > row[ids[place]]).sum()) + 1))
        surprisals.append(float(row.logsumexp(0) - row[ids[place]]))
    return float(np.mean(ranks)), float(np.mean(surprisals)), len(ranks)


def test_scores_are_those_of_the_model_whatever_lies_in_the_same_row() -> None:
    scores = Scorer(settings(), TEMPLATE).score(EXAMPLES, ignore_progress)
    assert sorted(scores) == [one.trace_id for one in EXAMPLES]
    for example in EXAMPLES[:3]:
        rank, surprisal, tokens = by_hand(example)
        score = scores[example.trace_id]
        assert score.tokens == tokens
        assert score.rank == pytest.approx(rank, abs=1 / tokens)  # a tie may fall otherwise
        assert score.surprisal == pytest.approx(surprisal, rel=1e-4)
        assert score.rsr == pytest.approx(score.rank / score.surprisal)
        assert score.local is None
    unpacked = Scorer(settings(packing=False), TEMPLATE).score(EXAMPLES, ignore_progress)
    for trace, score in unpacked.items():
        assert score.surprisal == pytest.approx(scores[trace].surprisal, rel=1e-4)


def test_what_the_student_cant_learn_has_no_score() -> None:
    long = Example(trace_id="long", prompt="1 + 1 =", reasoning="1 " * 600, answer="2")
    wrong = Example(trace_id="tag", prompt="1 + 1 =", reasoning="<think> again", answer="2")
    scorer = Scorer(settings(), TEMPLATE)
    assert scorer.score([], ignore_progress) == {}
    assert scorer.score([long], ignore_progress) == {}
    assert scorer.score([wrong], ignore_progress) == {}
    assert set(scorer.score([long, EXAMPLES[0], wrong], ignore_progress)) == {"1"}


def test_local_naturalness_is_that_of_steps_after_the_two_before_them() -> None:
    from transformers import AutoTokenizer

    scorer = Scorer(settings(), TEMPLATE)
    score = scorer.score(EXAMPLES[:2], ignore_progress, local=True)["1"]
    from finetune.prepare import prepare

    (sample,) = prepare(EXAMPLES[:1], settings(), STUDENT, TEMPLATE).rendered.samples
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    pieces = steps(sample, tokenizer)
    assert sum(piece.learnt for piece in pieces) == sample.learnt
    completion = sample.input_ids[sample.prompt :].tolist()
    joined = [one for piece in pieces for one in piece.input_ids[piece.prompt :].tolist()]
    assert joined == completion
    assert pieces[0].prompt == 0
    assert pieces[2].prompt == pieces[0].learnt + pieces[1].learnt
    assert pieces[3].prompt == pieces[1].learnt + pieces[2].learnt
    assert score.local is not None
    assert score.local < 0


def test_a_completion_without_an_end_is_one_step() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    ids = np.array(tokenizer("one two three")["input_ids"], np.int32)
    (piece,) = steps(Sample(trace_id="a", input_ids=ids, prompt=1, answer=2), tokenizer)
    assert piece.input_ids.tolist() == ids[1:].tolist()


@pytest.mark.slow
def test_a_recipe_chooses_by_the_ratio_and_keeps_the_scores(copied: Path, recipe: Path) -> None:
    steps_ = "filter.steps=[form, verify, exact, {select: {by: rsr, per_problem: 1}}]"
    done = run_tracestill("filter", recipe, "--out", copied, "--set", steps_)
    assert done.returncode == 0, done.stderr
    run = tracestill.load_run(copied)
    journal = copied / "filter" / "scores.journal.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    verdicts = run.verdicts()
    right = verdicts[verdicts["outcome"] == "correct"]
    assert len(rows) == len(right) - run.manifest("filter").dropped.get("exact_duplicate", 0)
    traces = run.traces().set_index("id")
    ratios = {r["score"]["trace_id"]: r["score"]["rank"] / r["score"]["surprisal"] for r in rows}
    problems = traces["problem_id"]
    for kept in run.kept()["id"]:
        rivals = [t for t in ratios if problems[t] == problems[kept]]
        assert ratios[kept] == min(ratios[rival] for rival in rivals)
    again = run_tracestill(
        "filter", recipe, "--out", copied, "--set", steps_.replace("per_problem: 1", "total: 5")
    )
    assert again.returncode == 0, again.stderr
    assert journal.read_text().count("\n") == len(rows)  # none is made twice
    assert len(tracestill.load_run(copied).kept()) == 5


@pytest.mark.slow
@pytest.mark.slow  # vLLM starts twice
def test_a_recipe_keeps_what_the_student_does_not_always_solve(copied: Path, recipe: Path) -> None:
    steps_ = "filter.steps=[form, {select: {by: student_pass_rate, keep: [0, 0.9]}}]"
    asked = ["--set", "filter.student={samples: 4, max_tokens: 64}"]
    done = run_tracestill("filter", recipe, "--out", copied, "--set", steps_, *asked)
    assert done.returncode == 0, done.stderr
    answers = (copied / "filter" / "student_before.journal.jsonl").read_text().splitlines()
    run = tracestill.load_run(copied)
    assert len(answers) == 4 * len(run.problems())
    details = run.drops()[run.drops()["step"] == "select"]["detail"]
    assert all(detail.startswith("the student's pass rate 1, kept") for detail in details)
    narrower = steps_.replace("0.9", "0.4")
    again = run_tracestill("filter", recipe, "--out", copied, "--set", narrower, *asked)
    assert again.returncode == 0, again.stderr
    after = (copied / "filter" / "student_before.journal.jsonl").read_text().splitlines()
    assert after == answers  # nothing is asked twice


def test_the_command_compares_teachers(copied: Path, recipe: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.jsonl"
    done = run_tracestill(
        "score", recipe, "--out", copied, "--traces", "9", "--local", "--write", table
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert len(rows) == 9
    assert set(rows[0]) == {"trace_id", "tokens", "rank", "surprisal", "local", "rsr"}
    header, first, *others = done.stdout.strip().splitlines()[2:]
    assert header.split() == [
        "teacher", "source", "traces", "correct", "tokens", "surprisal", "rsr", "local",
    ]  # fmt: skip
    assert first.split()[:3] == ["miniature/teacher", "all", "9"]
    assert {line.split()[1] for line in others} == {"chain_sum", "ab"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--write", "scores.csv"], "must end in .parquet or .jsonl"),
        (["nowhere"], "nowhere has no traces yet"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, copied: Path, recipe: Path) -> None:
    done = run_tracestill("score", recipe, "--out", copied, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
