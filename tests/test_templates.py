from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from jinja2.sandbox import ImmutableSandboxedEnvironment

EXPECTED = {
    "miniature": "<|user|>Be brief.\n\nHi<|assistant|>Yes<|end|><|user|>So?<|assistant|><think>\n",
    "chatml-think": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYes<|im_end|>\n<|im_start|>user\nSo?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n"
    ),
}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes" / "templates").glob("*.jinja")), ids=lambda p: p.stem
)
def test_a_template_opens_the_reasoning_and_forgets_past_reasoning(path: Path) -> None:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes"},
        {"role": "user", "content": "So?"},
    ]
    text = environment.from_string(path.read_text()).render(
        messages=messages, add_generation_prompt=True
    )
    assert text == EXPECTED[path.stem]
