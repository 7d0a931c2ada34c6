"""The shipped templates with the real tokenizers, which only a hub has. No other test reaches one:
`make test-hub` runs these.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from rendering import examples, loaded, rendered

from finetune.sample_checks import check_samples
from finetune.tokenizer import as_messages

pytestmark = [
    pytest.mark.hub,
    pytest.mark.skipif(
        os.environ.get("HF_HUB_OFFLINE") != "0", reason="reads from a hub: `make test-hub`"
    ),
]

# Template, model, and whether the model's own template writes the same turns where there is a
# system prompt.
MODELS = [
    ("chatml-think", "Qwen/Qwen2.5-1.5B", False),
    ("qwen2.5", "Qwen/Qwen2.5-1.5B", True),
    ("qwen2.5", "Qwen/Qwen2.5-1.5B-Instruct", True),
    ("qwen2.5-math", "Qwen/Qwen2.5-Math-1.5B", True),
    ("qwen3", "Qwen/Qwen3-1.7B-Base", True),
    ("qwen3", "Qwen/Qwen3-1.7B", True),
    ("llama-3", "meta-llama/Llama-3.2-1B-Instruct", True),
    ("r1-distill", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", True),
    ("r1-distill", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", True),
    ("teuken", "openGPT-X/Teuken-7B-instruct-commercial-v0.4", False),
]


def reached(name: str, model: str) -> dict[str, Path]:
    """The model as a student of a template's name; skips where it is gated."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    try:
        hf_hub_download(model, "config.json")
    except GatedRepoError:
        pytest.skip(f"{model} is gated, and this machine has no access")
    return {name: Path(model)}


@pytest.mark.parametrize(("name", "model", "_same"), MODELS)
def test_a_real_tokenizer_passes_every_check(name: str, model: str, _same: bool) -> None:
    from transformers import AutoConfig

    students = reached(name, model)
    config = AutoConfig.from_pretrained(model, trust_remote_code=True)
    for system in (None, "Be brief."):
        asked = examples(6)
        tokenizer, made = rendered(students, name, asked, system_prompt=system)
        checked = check_samples(made, asked, tokenizer, config, system=system, max_length=512)
        assert len(checked.samples) == len(asked)
        for sample, example in zip(made.samples, asked, strict=True):
            whole = tokenizer.decode(sample.input_ids[sample.prompt : -1])
            assert example.reasoning.strip() in whole
            assert sample.input_ids[-1] == tokenizer.convert_tokens_to_ids(made.contract.stop)


@pytest.mark.parametrize(("name", "model", "_same"), [one for one in MODELS if one[2]])
def test_the_turns_are_those_of_the_models_own_template(name: str, model: str, _same: bool) -> None:
    from transformers import AutoTokenizer

    students = reached(name, model)
    told: dict[str, Any] = {
        "add_generation_prompt": True, "tokenize": False, "date_string": "26 Jul 2024"
    }  # fmt: skip
    own = AutoTokenizer.from_pretrained(model)
    one = as_messages("What is 1 + 1?", "Be brief.")
    more = [*one, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Sure?"}]
    for messages in (one, more):
        ours = loaded(students, name).apply_chat_template(messages, **told)
        assert ours == own.apply_chat_template(messages, **told)


@pytest.mark.parametrize(("name", "model", "_same"), MODELS)
def test_a_contract_ends_where_the_model_ends(name: str, model: str, _same: bool) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from transformers import GenerationConfig

    students = reached(name, model)
    try:
        hf_hub_download(model, "generation_config.json")
    except EntryNotFoundError:
        pytest.skip(f"{model} has no generation_config.json")
    _, made = rendered(students, name, examples(1))
    ends = GenerationConfig.from_pretrained(model).eos_token_id
    assert set(ends if isinstance(ends, list) else [ends]) <= set(made.endings)
