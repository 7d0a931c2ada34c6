"""What the student is trained on, and what comes out, with real trl on the miniature student."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from finetune.config import FinetuneSection, Lora
from finetune.render import Example, load_tokenizer, prompt_text
from finetune.train import train

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "recipes" / "templates" / "miniature.jinja"


def settings(**values: Any) -> FinetuneSection:
    base: dict[str, Any] = {
        "student": str(ROOT / "miniature" / "student"),
        "template": str(TEMPLATE),
        "think": "prefilled",
        "stop": "<|end|>",
        "learning_rate": 3e-3,
        "epochs": 2,
        "max_length": 128,
        "batch_size": 2,
        "lora": Lora(rank=8, alpha=16),
        "checkpoint_every": 4,
        "holdout": 0.0,
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
