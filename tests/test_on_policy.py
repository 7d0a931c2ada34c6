"""The student learns from its own samples, with real trl on the miniature."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationMixin

from finetune.metrics import ON_POLICY
from finetune.on_policy import Distillation, distil_on_policy
from finetune.student import add_adapter, load_student
from finetune.teacher import check_teacher
from finetune.tokenizer import load_tokenizer, prompt_text
from miniature import tasks
from tracestill.recipe.errors import RecipeError
from tracestill.recipe.finetune import FinetuneSection, Lora
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.paths import check_paths
from tracestill.records import OnProgress, Progress
from tracestill.records.progress import ignore_progress

ROOT = Path(__file__).parent.parent
STUDENT, TEACHER = str(ROOT / "miniature" / "student"), str(ROOT / "miniature" / "teacher")
TEMPLATE = ROOT / "recipes" / "templates" / "miniature.jinja"
STOP, PAD = 259, 256


def settings(*, teacher: str = TEACHER, asked: dict[str, Any] | None = None, **values: Any) -> Any:
    return FinetuneSection(
        **{
            "student": STUDENT,
            "template": str(TEMPLATE),
            "lora": Lora(rank=4, alpha=8),
            "checkpoint_every": 2,
            "warmup": 0,
            "liger": False,  # it changes models of this process on the CPU too
            "on_policy": {
                "teacher": teacher, "steps": 1, "prompts": 4, "max_tokens": 24,
                "learning_rate": 3e-3, **(asked or {}),
            },
            **values,
        }
    )  # fmt: skip


def tokenizer() -> Any:
    return load_tokenizer(STUDENT, None, TEMPLATE)


def prompts(count: int = 6) -> list[list[int]]:
    """Of different lengths, so that rows are padded."""
    made = tokenizer()
    asked = ["Do one step.\n" + " + ".join(map(str, range(1, n + 3))) for n in range(count)]
    texts = [prompt_text(made, text) for text in asked]
    ids: list[list[int]] = made(texts, add_special_tokens=False)["input_ids"]
    return ids


def trained(folder: Path, wanted: Any) -> Path:
    """What the training on traces leaves behind, of a training that learnt nothing."""
    model = add_adapter(load_student(STUDENT, wanted, 1).model, wanted)
    model.save_pretrained(folder / "sft")
    return folder / "sft"


def distil(
    folder: Path, wanted: Any, progress: OnProgress = ignore_progress, **values: Any
) -> tuple[Any, dict[str, Any]]:
    """Run it, in `folder`. Returns the model, and the figures with those of each step."""
    if not (folder / "sft").exists():
        trained(folder, wanted)
    job = Distillation(
        **{
            "prompts": prompts(), "settings": wanted, "student": STUDENT,
            "trained": folder / "sft", "tokenizer": tokenizer(), "endings": [STOP],
            "folder": folder, "seed": 0, **values,
        }
    )  # fmt: skip
    model, figures = distil_on_policy(job, progress)
    rows = [json.loads(line) for line in (folder / ON_POLICY).read_text().splitlines()]
    return model, {**asdict(figures), "rows": rows}


@pytest.mark.parametrize("pad", [PAD, STOP])
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_the_loss_is_the_divergence_on_what_the_student_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beta: float, pad: int
) -> None:
    seen: list[tuple[Any, Any, Any]] = []
    generate = GenerationMixin.generate

    def spied(self: Any, **kwargs: Any) -> Any:
        assert not self.training, "it samples without dropout"
        made = generate(self, **kwargs)
        seen.append((kwargs["input_ids"], kwargs["attention_mask"], made))
        return made

    monkeypatch.setattr(GenerationMixin, "generate", spied)
    wanted = settings(asked={"beta": beta, "temperature": 0.8, "max_tokens": 3}, micro_batch=2)
    given = tokenizer()
    given.pad_token = given.convert_ids_to_tokens(pad)
    _, figures = distil(tmp_path, wanted, tokenizer=given)

    ((asked, mask, made),) = seen
    models = [
        AutoModelForCausalLM.from_pretrained(m, dtype=torch.float32) for m in (STUDENT, TEACHER)
    ]
    total, tokens, ended = 0.0, 0, 0
    for row, kept, whole in zip(asked, mask, made, strict=True):
        prompt = row[kept.bool()].tolist()
        assert prompt in prompts(), "what is asked is what the training on traces asked"
        sample = whole[len(row) :].tolist()
        if STOP in sample:
            sample, ended = sample[: sample.index(STOP) + 1], ended + 1
        tokens += len(sample)
        with torch.no_grad():
            logits = [m(input_ids=torch.tensor([prompt + sample])).logits[0] for m in models]
        own, other = ((one[len(prompt) - 1 : -1].double() / 0.8).log_softmax(-1) for one in logits)
        p, q = (own, other) if beta == 1 else (other, own)
        total += float((p.exp() * (p - q)).sum())
    (row,) = figures["rows"]
    assert row["loss"] == pytest.approx(total / tokens, rel=1e-5)
    assert (row["tokens"], row["ended_share"]) == (tokens, ended / 4)
    assert 0 < ended < 4, "some ended by themselves and some did not"


def test_a_student_that_is_its_teacher_learns_nothing(tmp_path: Path) -> None:
    _, figures = distil(tmp_path, settings(teacher=STUDENT))
    assert figures["rows"][0]["loss"] == pytest.approx(0, abs=1e-6)


def test_the_loss_falls_and_the_adapter_stays_float32(tmp_path: Path) -> None:
    events: list[Progress] = []
    wanted = settings(asked={"steps": 12, "prompts": 8, "max_tokens": 40})
    model, figures = distil(tmp_path, wanted, progress=events.append)
    assert figures["last_loss"] < 0.7 * figures["first_loss"]
    assert [row["step"] for row in figures["rows"]] == list(range(1, 13))
    assert [(event.done, event.total) for event in events] == [(n, 12) for n in range(1, 13)]
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_micro_batches_change_nothing_but_memory(tmp_path: Path) -> None:
    losses = []
    for size in (4, 1):
        (tmp_path / str(size)).mkdir()
        _, figures = distil(tmp_path / str(size), settings(micro_batch=size))
        losses.append(figures["rows"][0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_samples_that_are_all_cut_give_finite_losses(tmp_path: Path) -> None:
    made = tokenizer()
    asked = [made.encode(prompt_text(made, t.question)) for t in some_tasks(6)]
    _, figures = distil(tmp_path, settings(asked={"steps": 2, "max_tokens": 1}), prompts=asked)
    check_finite(figures["rows"], ended=0.0)


def test_samples_that_are_empty_give_finite_losses(tmp_path: Path) -> None:
    every = [STOP, *set(range(320)) - {STOP}]
    _, figures = distil(tmp_path, settings(asked={"steps": 2}), endings=every)
    check_finite(figures["rows"], ended=1.0)


def some_tasks(count: int) -> list[tasks.Task]:
    return list(itertools.islice(tasks.problems("distil", "chain_sum", 1), count))


def check_finite(rows: list[dict[str, Any]], *, ended: float) -> None:
    for row in rows:
        assert 0 < row["loss"] < 100
        assert 0 < row["grad_norm"] < 1000
        assert (row["mean_tokens"], row["ended_share"]) == (1.0, ended)


def test_a_whole_student_is_trained(tmp_path: Path) -> None:
    wanted = settings(method="full", asked={"learning_rate": 1e-3})
    model, _ = distil(tmp_path, wanted)
    assert all(p.requires_grad for p in model.parameters())
    before = load_file(tmp_path / "sft" / "model.safetensors")
    assert not torch.equal(before["model.norm.weight"], model.model.norm.weight.cpu())


def test_a_quantised_students_adapter_stays_float32(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    model, figures = distil(tmp_path, settings(quantize="nf4"))
    assert model.is_loaded_in_4bit
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert figures["rows"][0]["grad_norm"] > 0


def test_rows_that_no_token_has_do_not_count(tmp_path: Path) -> None:
    """Qwen2.5-7B has 128 embeddings more than Qwen2.5-1.5B, of no token."""
    model = AutoModelForCausalLM.from_pretrained(TEACHER)
    model.resize_token_embeddings(352)
    shutil.copytree(TEACHER, tmp_path / "padded")
    model.save_pretrained(tmp_path / "padded")
    rows = []
    for name, teacher in (("same", TEACHER), ("more", str(tmp_path / "padded"))):
        (tmp_path / name).mkdir()
        _, figures = distil(tmp_path / name, settings(teacher=teacher))
        rows.append(figures["rows"][0])
    assert rows[0]["loss"] == rows[1]["loss"]


def other_teacher(folder: Path, **changes: Callable[[Any], None]) -> str:
    """The miniature teacher without its weights, some of its files changed."""
    shutil.copytree(TEACHER, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for name, change in changes.items():
        path = folder / f"{name}.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))
    return str(folder)


def swap_two(values: Any) -> None:
    vocabulary = values["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]


def add_one(values: Any) -> None:
    token = {**values["added_tokens"][-1], "id": 319, "content": "<|tool|>"}
    values["added_tokens"].append(token)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": swap_two}, "another vocabulary than the student: 2 tokens differ, such as"),
        ({"tokenizer": add_one}, r"1 tokens differ, such as '<\|tool\|>' \(the student's id: none"),
        ({"config": lambda c: c.update(vocab_size=304)}, "304 embeddings and the student 320"),
        ({"generation_config": lambda c: c.update(eos_token_id=[256, 257])}, "it would unlearn"),
        ({"config": lambda c: c.update(max_position_embeddings=32)}, "the teacher's context is 32"),
    ],
)
def test_a_teacher_that_can_not_teach_it_is_refused_before_weights_are_loaded(
    tmp_path: Path, changes: dict[str, Callable[[Any], None]], message: str
) -> None:
    wanted = settings(teacher=other_teacher(tmp_path / "teacher", **changes))
    with pytest.raises(ValueError, match=message) as raised:
        check_teacher(prompts(), wanted, student=STUDENT, tokenizer=tokenizer(), endings=[STOP])
    assert "\n" not in str(raised.value)


def test_a_teacher_without_weights_passes_the_check(tmp_path: Path) -> None:
    wanted = settings(teacher=other_teacher(tmp_path / "teacher"))
    check_teacher(prompts(), wanted, student=STUDENT, tokenizer=tokenizer(), endings=[STOP])
    missing = settings(teacher=str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"on_policy\.teacher: .* can't be loaded"):
        check_teacher(prompts(), missing, student=STUDENT, tokenizer=tokenizer(), endings=[STOP])


def test_settings_that_can_not_work_are_refused_in_the_recipe() -> None:
    with pytest.raises(ValidationError, match="a served teacher does not give its distribution"):
        settings(teacher="http://localhost:8000/v1")
    with pytest.raises(ValidationError, match=r"set launch\.gpus: 1"):
        settings(launch={"gpus": 2})


def test_the_guides_section_is_one() -> None:
    guide = (ROOT / "docs" / "on-policy.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", guide, re.S | re.M)
    asked = FinetuneSection(**yaml.safe_load(block)["finetune"]).on_policy
    assert asked is not None
    assert asked.steps == 200


def test_the_teachers_folder_is_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text())
    recipe["generate"]["model"] = recipe["finetune"]["student"] = STUDENT
    recipe["finetune"]["template"] = str(TEMPLATE)
    recipe["finetune"]["on_policy"] = {"teacher": "./teacher"}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    asked = load_recipe(path).finetune.on_policy
    assert asked is not None
    assert asked.teacher == str(tmp_path / "teacher")
    with pytest.raises(RecipeError, match=r"finetune\.on_policy\.teacher: the model folder"):
        check_paths(load_recipe(path))


KILLABLE: dict[str, Any] = {
    "asked": {"steps": 7, "prompts": 4, "max_tokens": 12},
    "lora": Lora(rank=4, alpha=8, dropout=0.1),
    "micro_batch": 2,
}
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_on_policy import KILLABLE, distil, settings

def told(event):
    print(event.done, flush=True)

distil(Path(sys.argv[1]), settings(**KILLABLE), progress=told)
"""


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights_and_another_is_refused(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    trained(whole, settings(**KILLABLE))
    shutil.copytree(whole, cut)
    killed = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(cut)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    assert killed.stdout
    for line in killed.stdout:
        if int(line) >= 5:
            break
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()

    changed = settings(**{**KILLABLE, "asked": {**KILLABLE["asked"], "beta": 0.5}})
    with pytest.raises(ValueError, match=r"got to step [46], and not this one: "):
        distil(cut, changed)
    undisturbed, _ = distil(whole, settings(**KILLABLE))
    resumed, figures = distil(cut, settings(**KILLABLE))
    assert figures["resumed_from_step"] in (4, 6)
    one, other = undisturbed.state_dict(), resumed.state_dict()
    assert any(tensor.any() for key, tensor in one.items() if "lora_B" in key)
    assert all(torch.equal(one[key], other[key]) for key in one)
    first, second = (
        [json.loads(line) for line in (folder / ON_POLICY).read_text().splitlines()]
        for folder in (whole, cut)
    )
    assert [row["loss"] for row in first] == [row["loss"] for row in second]
