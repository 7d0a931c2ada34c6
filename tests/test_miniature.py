from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from filter.verify import verify
from miniature import tasks
from miniature.tasks import FAMILIES, Task
from miniature.tokenizer import THINK
from miniature.train import STUDENT, TEACHER, copied_pieces, plain_turns, teacher_texts
from tracestill.recipe.loading import load_recipe
from tracestill.records import Problem, bucket

SPLITS = ("heldout", "distil", "student", "teacher")


def some(split: Any, family: str, seed: int = 5, count: int = 40) -> list[Task]:
    return list(itertools.islice(tasks.problems(split, family, seed), count))


def tokenizer(root: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(root / "miniature" / name)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_problem_serves_two_purposes(family: str) -> None:
    """By construction: a problem's bucket is a hash of its text, and says what it is for."""
    questions = {split: {t.question for t in some(split, family)} for split in SPLITS}
    for split, here in questions.items():
        assert {tasks.split_of(q) for q in here} == {split}
        for other in SPLITS:
            assert split == other or here.isdisjoint(questions[other])


def test_the_quickstart_takes_its_problems_from_their_buckets(root: Path) -> None:
    from generate.problems import load_problems

    recipe = load_recipe(root / "recipes" / "quickstart.yaml")
    for sources, split in ((recipe.problems.train, "distil"), (recipe.problems.heldout, "heldout")):
        problems, _ = load_problems(sources)
        assert len(problems) >= 300
        assert {tasks.split_of(p.prompt) for p in problems} == {split}
        for problem in problems:
            assert problem.meta["config"] == FAMILIES[problem.meta["family"]]
    question = some("teacher", "ab", count=1)[0].question
    assert tasks.split_of(question) == "teacher"
    assert bucket(question, 10) >= 6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_steps_lead_to_the_answer_that_the_scorer_accepts(family: str) -> None:
    import reasoning_gym

    config = FAMILIES[family]
    entry = reasoning_gym.create_dataset(family, seed=7, size=1, **config)[0]
    problem = Problem(
        id="p", prompt=entry["question"], reference=entry["answer"], kind="reasoning_gym",
        source=family, meta={"family": family, "config": config, "entry": entry},
    )  # fmt: skip
    task = Task(family, entry["question"], entry["answer"], tasks._STATES[family](entry))
    last = "" if task.states[-1] == tasks.EMPTY else task.states[-1]
    for answer in (f"\\boxed{{{last}}}", tasks.closing(task, Random(0))):
        assert verify(problem, answer, "t").outcome == "correct"


def test_the_student_is_never_shown_reasoning(root: Path) -> None:
    pieces = copied_pieces(tokenizer(root, "student"))
    texts = itertools.islice(plain_turns("student", STUDENT.cycles[-1], 5, pieces), 1000)
    for turns in texts:
        for question, answer in turns:
            if not question.startswith(("Copy", "Again")):
                assert not any(tag in question + answer for tag in THINK)
            assert not re.search(r"<think>\n.*</think>\n\n", answer, re.DOTALL)
            assert tasks.CHECK not in answer


def test_half_of_the_teachers_texts_reason_in_full(root: Path) -> None:
    pieces = copied_pieces(tokenizer(root, "teacher"))
    texts = list(itertools.islice(teacher_texts(TEACHER.cycles[-1], 5, pieces), 400))
    reasoned = [turns for turns in texts if turns[0][1].startswith("<think>\n")]
    assert 150 < len(reasoned) < 250
    for turns in reasoned:
        ((_, answer),) = turns
        assert answer.count("<think>") == answer.count("</think>") == 1
        assert answer.rpartition("</think>")[2].count("\\boxed{") == 1
    assert any(tasks.CHECK in turns[0][1] for turns in reasoned)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_models_folder_is_whole_and_small(root: Path, name: str) -> None:
    folder = root / "miniature" / name
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "qwen2"
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        size = sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118
    assert size <= {"teacher": 4_000_000, "student": 1_500_000}[name]
    assert sum(f.stat().st_size for f in (root / "miniature").rglob("*.*")) <= 12_000_000
    card = (folder / "README.md").read_text()
    assert f"{size:,} parameters" in card


def test_the_tokenizers_are_lossless_and_share_their_vocabulary(root: Path) -> None:
    teacher, student = tokenizer(root, "teacher"), tokenizer(root, "student")
    assert teacher.get_vocab() == student.get_vocab()
    for text in ("naïve 漢字 🙂\n\t x", *(t.question for t in some("teacher", "ab", count=3))):
        assert teacher.decode(teacher.encode(text)) == text
    question = [{"role": "user", "content": "1 + 1"}]
    render = {"tokenize": False, "add_generation_prompt": True}
    assert teacher.apply_chat_template(question, **render) == "<|user|>1 + 1<|assistant|><think>\n"
    assert student.apply_chat_template(question, **render) == "<|user|>1 + 1<|assistant|>"
    turns = [*question, {"role": "assistant", "content": "a</think>\n\n2"}, *question]
    assert "<|assistant|>2<|end|><|user|>" in teacher.apply_chat_template(turns, tokenize=False)
