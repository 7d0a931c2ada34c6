"""Checkpoints that see too, as students of text: the vision tower stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import training
from own_students import make_own_student
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
)

from finetune.multimodal import model_class, parts_beside
from finetune.planner.unknown import shape_of
from finetune.train import Trained, train
from tracestill.recipe.contract_keys import OWN
from tracestill.recipe.finetune import FinetuneSection, Lora

# Plain text becomes a list of parts where a template reads nothing else.
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def gemma3(folder: Path) -> Any:
    text = json.loads((make_own_student("gemma3", folder) / "config.json").read_text())
    sees = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_use_head": False,
    }  # fmt: skip
    return AutoConfig.for_model(
        "gemma3", text_config=text, vision_config=sees, mm_tokens_per_image=4, image_token_index=5,
        boi_token_index=3, eoi_token_index=4,
    )  # fmt: skip


def qwen2_5_vl(folder: Path) -> Any:
    text = json.loads((make_own_student("smollm3", folder) / "config.json").read_text())
    (folder / "chat_template.jinja").write_text(PARTS)
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
            "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
            "bos_token_id", "eos_token_id", "pad_token_id")  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
    sees = {
        "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2,
        "out_hidden_size": 64, "patch_size": 14, "fullatt_block_indexes": [0], "window_size": 56,
    }  # fmt: skip
    return AutoConfig.for_model(
        "qwen2_5_vl", text_config={**{key: text[key] for key in kept}, "rope_parameters": rope},
        vision_config=sees, image_token_id=5, video_token_id=6, vision_start_token_id=7,
        vision_end_token_id=8, tie_word_embeddings=False,
    )  # fmt: skip


FAMILIES = {"gemma3": gemma3, "qwen2.5-vl": qwen2_5_vl}
TOWER = {"gemma3": ("vision_tower.", "multi_modal_projector."), "qwen2.5-vl": ("visual.",)}


@pytest.fixture(scope="module", params=FAMILIES)
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A family's name and a checkpoint of it with random weights in 16 bits."""
    folder = tmp_path_factory.mktemp("seeing") / request.param
    config = FAMILIES[request.param](folder)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    return request.param, folder


def trained(student: Path, folder: Path, **values: Any) -> Trained:
    settings = FinetuneSection(
        **{
            "student": str(student), "learning_rate": 3e-3, "epochs": 1, "max_length": 256,
            "batch_size": 2, "lora": Lora(rank=8, alpha=16), "holdout": 0.0, **values,
        }
    )  # fmt: skip
    return train(
        training.examples(12), settings, student=str(student), template=Path(OWN), folder=folder,
        seed=0, progress=lambda _: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"quantize": "nf4"},
        pytest.param({"method": "full", "learning_rate": 1e-3}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_text_is_learnt_and_the_tower_left_alone(
    seeing: tuple[str, Path], tmp_path: Path, values: dict[str, Any]
) -> None:
    name, folder = seeing
    made = trained(folder, tmp_path, **values)
    before, after = (
        load_file(part / "model.safetensors") for part in (folder, tmp_path / "merged")
    )
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    tower = {key for key in before if key.startswith(TOWER[name])}
    assert tower
    assert not changed & tower
    assert any("mlp.down_proj" in key for key in changed)
    assert (tmp_path / "merged" / "preprocessor_config.json").exists()
    if "method" not in values:
        adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
        assert all(".language_model." in key for key in adapter)
        # vLLM maps such names to its own.
        assert all(key.startswith("base_model.model.model.") for key in adapter)
    if name == "qwen2.5-vl":
        assert any("lists of parts" in note for note in made.notes)


def test_what_is_saved_is_read_with_its_tower(seeing: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = seeing
    trained(folder, tmp_path)
    ids = torch.arange(10, 40)[None]
    logits = []
    kinds = [AutoModelForImageTextToText]
    if name == "gemma3":
        kinds.append(AutoModelForCausalLM)
    for kind in kinds:
        model, report = kind.from_pretrained(
            tmp_path / "merged", dtype=torch.float32, output_loading_info=True
        )
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        logits.append(model(input_ids=ids).logits)
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert "Word" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "Word"}], tokenize=False
    )


def test_the_plan_counts_the_tower(seeing: tuple[str, Path]) -> None:
    _, folder = seeing
    config = AutoConfig.from_pretrained(folder)
    model: PreTrainedModel = model_class(config).from_pretrained(folder)
    shape = shape_of(config.to_dict())
    assert shape.beside == sum(parts_beside(config).values()) > 0
    assert shape.parameters + shape.beside == model.num_parameters()
