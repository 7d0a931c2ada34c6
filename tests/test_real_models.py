"""Real models, as `make real-models` fetches them: SmolLM2's tokenizer restored from its GGUF."""

from __future__ import annotations

from typing import Any

import pytest
import real_models
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def smollm2() -> Any:
    if why := real_models.missing(real_models.SMOLLM2):
        pytest.skip(why)
    return AutoTokenizer.from_pretrained(real_models.folder(real_models.SMOLLM2))


def test_smollm2_splits_numbers_into_digits(smollm2: Any) -> None:
    assert smollm2.tokenize("In 2024, 1234.5") == [
        "In", "Ġ", "2", "0", "2", "4", ",", "Ġ", "1", "2", "3", "4", ".", "5",
    ]  # fmt: skip
    assert smollm2.tokenize("She's pulling") == ["She", "'s", "Ġpulling"]


def test_smollm2s_special_tokens_are_its_makers(smollm2: Any) -> None:
    assert len(smollm2) == 49_152
    assert smollm2.convert_ids_to_tokens([0, 1, 2]) == [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    ]  # fmt: skip
    assert (smollm2.bos_token, smollm2.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert smollm2("<|im_start|>user\nHi<|im_end|>").input_ids[0] == 1
    assert "<|im_start|>user\nHi<|im_end|>\n" in smollm2.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False
    )


@pytest.mark.parametrize("text", ["añb\n\n  def f(x):\n\treturn 3²", "  日本 🙂 e\u0301", " x"])
def test_smollm2_reads_back_what_it_writes(smollm2: Any, text: str) -> None:
    assert smollm2.decode(smollm2(text).input_ids) == text


def test_smollm2_answers(smollm2: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        real_models.folder(real_models.SMOLLM2), dtype=torch.float32
    )
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    ids = smollm2.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
    made = model.generate(**ids, max_new_tokens=32, do_sample=False)[0]
    assert "Paris" in smollm2.decode(made)
    assert made[-1] == 2, "its turn ends"


@pytest.mark.parametrize("name", sorted(set(real_models.SOURCES) - {real_models.SMOLLM2}))
def test_vendors_tokenizers_are_whole(name: str) -> None:
    if why := real_models.missing(name):
        pytest.skip(why)
    tokenizer = AutoTokenizer.from_pretrained(real_models.folder(name))
    text = "Let x = 12345.\n\n<think> Ünïcode 日本 </think>\tdone"
    if name != "deepseek-v3":  # transformers reads this one with another class: told elsewhere
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
    assert tokenizer.chat_template
