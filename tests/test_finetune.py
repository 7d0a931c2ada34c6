"""What the student is trained on, and what comes out, with real trl on the miniature student."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.config import FinetuneSection, Lora
from finetune.packing import PackedCollator, pack, row_features
from finetune.render import (
    IGNORED,
    Example,
    check_vocabulary,
    load_tokenizer,
    prompt_text,
    render,
)
from finetune.train import train

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "recipes" / "templates" / "miniature.jinja"


def settings(**values: Any) -> FinetuneSection:
    base: dict[str, Any] = {
        "student": str(ROOT / "miniature" / "student"),
        "template": str(TEMPLATE),
        "stop": "<|end|>",
        "learning_rate": 3e-3,
        "epochs": 2,
        "max_length": 128,
        "batch_size": 2,
        "lora": Lora(rank=8, alpha=16),
        "checkpoint_every": 4,
    }
    return FinetuneSection(**{**base, **values})


def examples(count: int = 24) -> list[Example]:
    return [
        Example(
            trace_id=f"t{n}",
            prompt=f"State the final answer to the following arithmetic problem: {n} + 1 + 2 =",
            reasoning=f" {n} + 1 + 2\n{n + 1} + 2\n{n + 3}\n",
            answer=f"The answer is \\boxed{{{n + 3}}}.",
        )
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(settings().student, None, TEMPLATE)


def test_a_sample_is_the_prompt_of_inference_and_the_whole_completion(tokenizer: Any) -> None:
    (sample,), overlong = render(examples(1), tokenizer, settings())
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": examples(1)[0].prompt}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    assert sample.input_ids[: len(prompt)] == prompt
    assert sample.labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert sample.labels[len(prompt) :] == sample.input_ids[len(prompt) :]
    assert sample.labels[-1] == tokenizer.convert_tokens_to_ids("<|end|>")
    completion = tokenizer.decode(sample.input_ids[len(prompt) :])
    assert completion == "0 + 1 + 2\n1 + 2\n3\n</think>\n\nThe answer is \\boxed{3}.<|end|>"
    assert not overlong


def test_think_is_generated_where_the_template_does_not_open_it(tokenizer: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(settings().student)
    (sample,), _ = render(examples(1), tokenizer, settings(think="generated"))
    assert "<think>\n0 + 1" in tokenizer.decode([t for t in sample.labels if t != IGNORED])


def test_what_is_too_long_is_left_out_whole(tokenizer: Any) -> None:
    some = examples(4)
    long = Example(trace_id="long", prompt="x", reasoning="1 + 1\n" * 100, answer="2")
    samples, overlong = render([*some, long], tokenizer, settings())
    assert [s.trace_id for s in samples] == [e.trace_id for e in some]
    assert [(o.trace_id, o.tokens > 128) for o in overlong] == [("long", True)]
    with pytest.raises(ValueError, match=r"every trace is longer than finetune\.max_length"):
        render([long], tokenizer, settings())


@pytest.mark.parametrize(
    ("values", "example", "message"),
    [
        ({"stop": "<|im_end|>"}, {}, "is not one token of the student's vocabulary"),
        ({"think": "generated"}, {}, "set finetune.think to prefilled"),
        ({}, {"reasoning": "a </think> b"}, "trace t0 holds a think tag"),
        ({}, {"answer": "4<|end|>"}, r"trace t0 holds the stop token <\|end\|>"),
    ],
)
def test_a_sample_that_would_teach_something_else_is_refused(
    tokenizer: Any, values: dict[str, Any], example: dict[str, Any], message: str
) -> None:
    one = examples(1)[0]
    fields = {name: getattr(one, name) for name in one.__slots__}
    with pytest.raises(ValueError, match=message):
        render([Example(**{**fields, **example})], tokenizer, settings(**values))


def test_no_trace_is_told(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="no trace was kept to train on"):
        render([], tokenizer, settings())


def test_a_tokenizer_of_another_model_is_refused(tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(settings().student)
    samples, _ = render(examples(2), tokenizer, settings())
    check_vocabulary(samples, tokenizer, model.config)
    model.config.vocab_size = 100
    with pytest.raises(ValueError, match="the tokenizer belongs to another model"):
        check_vocabulary(samples, tokenizer, model.config)


def test_a_sample_beyond_the_context_is_refused(tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(settings().student)
    samples, _ = render(examples(2), tokenizer, settings())
    model.config.max_position_embeddings = 16
    with pytest.raises(ValueError, match="the student's context is 16"):
        check_vocabulary(samples, tokenizer, model.config)


def test_packing_is_best_fit_and_loses_nothing() -> None:
    lengths = [5, 9, 3, 7, 1, 8, 2, 10]
    rows = pack(lengths, 10)
    assert sorted(i for row in rows for i in row) == list(range(8))
    assert all(sum(lengths[i] for i in row) <= 10 for row in rows)
    assert len(rows) == 5


def test_packed_loss_equals_unpacked_loss(tokenizer: Any) -> None:
    samples, _ = render(examples(12), tokenizer, settings())
    rows = pack([len(s.input_ids) for s in samples], 128)
    assert len(rows) < 12
    columns = row_features(samples, rows)
    features = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    batch = PackedCollator(tokenizer.pad_token_id)(features)
    model = AutoModelForCausalLM.from_pretrained(settings().student, dtype=torch.float64)

    def losses(ids: Any, labels: Any, **more: Any) -> list[float]:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False, **more).logits[:, :-1]
        targets = labels[:, 1:]
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        return each[targets != IGNORED].tolist()

    packed = losses(batch["input_ids"], batch["labels"], position_ids=batch["position_ids"])
    order = [samples[i] for row in rows for i in row]
    alone = [
        x for s in order for x in losses(torch.tensor([s.input_ids]), torch.tensor([s.labels]))
    ]
    assert packed == pytest.approx(alone, abs=1e-9)


def test_trained_student_stands_by_itself(tmp_path: Path, tokenizer: Any) -> None:
    events: list[dict[str, Any]] = []
    details = train(
        examples(), settings(), student=settings().student, template=TEMPLATE,
        folder=tmp_path, seed=0, progress=events.append,
    )  # fmt: skip
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == list(range(1, details["steps"] + 1))
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert events[-1]["done"] == events[-1]["total"] == details["steps"]
    assert details["samples"] == 24
    assert details["logit_difference"] < 0.05
    merged = tmp_path / "merged"
    reloaded = AutoTokenizer.from_pretrained(merged)
    prompt = examples(1)[0].prompt
    assert prompt_text(reloaded, prompt) == prompt_text(tokenizer, prompt)
    config = json.loads((merged / "generation_config.json").read_text())
    assert config["eos_token_id"] == tokenizer.convert_tokens_to_ids("<|end|>")
    before = load_file(Path(settings().student) / "model.safetensors")
    after = load_file(merged / "model.safetensors")
    assert before.keys() == after.keys()
    name = "model.layers.0.mlp.up_proj.weight"
    assert after[name].dtype == before[name].dtype
    assert not torch.equal(before[name], after[name])
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_finetune import examples, settings, TEMPLATE
from finetune.train import train

def told(event):
    print(event["done"], flush=True)

details = train(examples(), settings(), student=settings().student, template=TEMPLATE,
                folder=Path(sys.argv[1]), seed=0, progress=told)
print("resumed from", details["resumed_from_step"], flush=True)
"""


def spawn(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def test_a_killed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed, killed = spawn(whole), spawn(cut)
    assert killed.stdout
    for line in killed.stdout:
        if int(line) >= 7:
            break
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert undisturbed.wait() == 0
    # A kill while a checkpoint is written leaves one without its mark: it must not count.
    checkpoints = cut / "checkpoints"
    broken = checkpoints / "checkpoint-999"
    shutil.copytree(checkpoints / "checkpoint-4", broken)
    (broken / "complete.json").unlink()
    (broken / "adapter_model.safetensors").write_bytes(b"torn")

    resumed = spawn(cut)
    assert resumed.stdout
    output = resumed.stdout.read()
    assert resumed.wait() == 0
    assert "resumed from 4" in output
    for name in ("adapter/adapter_model.safetensors", "merged/model.safetensors"):
        one, other = load_file(whole / name), load_file(cut / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    steps = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, max(steps) + 1))


def test_other_samples_do_not_go_on_from_an_old_checkpoint(tmp_path: Path) -> None:
    killed = spawn(tmp_path)
    assert killed.stdout
    for line in killed.stdout:
        if int(line) >= 5:
            break
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    details = train(
        examples(8), settings(epochs=1), student=settings().student, template=TEMPLATE,
        folder=tmp_path, seed=0, progress=lambda event: None,
    )  # fmt: skip
    assert details["resumed_from_step"] == 0
