"""The shipped chat templates: turns as each family has them, past turns without their reasoning."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import ROOT
from jinja2.sandbox import ImmutableSandboxedEnvironment
from students import FAMILIES

TEMPLATES = ROOT / "recipes" / "templates"
CHATML = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nYes<|im_end|>\n<|im_start|>user\nSo?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
)
EXPECTED = {
    "miniature": "<|user|>Be brief.\n\nHi<|assistant|>Yes<|end|><|user|>So?<|assistant|><think>\n",
    "chatml-think": f"{CHATML}<think>\n",
    "qwen2.5": CHATML,
    "qwen2.5-math": CHATML,
    "qwen3": CHATML,
    "llama-3": (
        f"{LLAMA}Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nYes<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nSo?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "r1-distill": (
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜>Yes<｜end▁of▁sentence｜>"
        "<｜User｜>So?<｜Assistant｜><think>\n"
    ),
    "teuken": "System: Be brief.\nUser: Hi\nAssistant: Yes</s>\nUser: So?\nAssistant: ",
}
# What stands before the first turn where there is no system prompt.
DEFAULTS = {
    "miniature": "<|user|>Hi",
    "chatml-think": "<|im_start|>user\nHi",
    "qwen2.5": (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n<|im_start|>user\nHi"
    ),
    "qwen2.5-math": (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within "
        "\\boxed{}.<|im_end|>\n<|im_start|>user\nHi"
    ),
    "qwen3": "<|im_start|>user\nHi",
    "llama-3": f"{LLAMA}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi",
    "r1-distill": "<｜begin▁of▁sentence｜><｜User｜>Hi",
    "teuken": (
        "System: A chat between a human and an artificial intelligence assistant.The assistant "
        "gives helpful and polite answers to the human's questions.\nUser: Hi"
    ),
}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes"},
    {"role": "user", "content": "So?"},
]


def text(name: str, messages: list[dict[str, str]], **values: Any) -> str:
    """As transformers and vLLM render it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    family = FAMILIES[name]
    template = environment.from_string((TEMPLATES / f"{name}.jinja").read_text())
    rendered: str = template.render(
        messages=messages, bos_token=family.bos, eos_token=family.eos, **values
    )
    return rendered


@pytest.mark.parametrize("name", sorted(path.stem for path in TEMPLATES.glob("*.jinja")))
def test_a_template_has_its_familys_turns_and_forgets_past_reasoning(name: str) -> None:
    assert text(name, CHAT, add_generation_prompt=True) == EXPECTED[name]
    closed = text(name, CHAT[:3], add_generation_prompt=False)
    assert EXPECTED[name].startswith(closed.rstrip("\n"))
    assert text(name, CHAT[1:2], add_generation_prompt=True).startswith(DEFAULTS[name])


def test_a_closed_think_block_is_what_qwen3_answers_after_without_thinking() -> None:
    plain = text("qwen3", CHAT, add_generation_prompt=True, enable_thinking=False)
    assert plain == f"{CHATML}<think>\n\n</think>\n\n"
    asked = text("qwen3", CHAT, add_generation_prompt=True, enable_thinking=True)
    assert asked == EXPECTED["qwen3"]


def test_teuken_is_told_in_each_language_what_it_was_trained_with() -> None:
    from tracestill.recipe.contract import read_contract
    from tracestill.recipe.finetune import FinetuneSection

    path = TEMPLATES / "teuken.jinja"
    section = FinetuneSection(student="x", template=str(path))
    contract = read_contract(path, section)
    assert contract is not None
    languages = contract.languages
    told = {text("teuken", CHAT[1:2], language=code) for code in languages}
    assert len(told) == len(languages) == 24
    assert text("teuken", CHAT[1:2], language=None) == text("teuken", CHAT[1:2], language="EN")
