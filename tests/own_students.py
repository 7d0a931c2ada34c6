"""Tiny students of families whose own templates are used: each with its tokens, the quirks of its
template in our words, and a model of random weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from students import Family, fast_tokenizer

from tracestill.recipe.contract import Contract

IM_END = "<|im_end|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A family: its tokenizer, its template and where that lies (`place`), its architecture with
    what its config needs beside sizes, and the contract that is to be found.

    `recurrent`: layers keep a state, so that samples can't share a row.
    """

    tokens: Family
    template: str
    contract: Contract
    kind: str
    place: str = "file"
    config: dict[str, Any] = field(default_factory=dict)
    generation_eos: tuple[str, ...] = ()
    recurrent: bool = False
    forgets_system: bool = False
    closed_by_default: bool = False


def _contract(stop: str, **values: Any) -> Contract:
    return Contract(**{"think": "generated", "stop": stop, "past_reasoning": True, **values})


def _chatml(
    first: str = "", begin: str = "<|im_start|>assistant\\n", said: str = "m.content"
) -> str:
    """ChatML turns; `first` stands before them, `begin` is the generation prompt."""
    return (
        f"{first}{{% for m in messages %}}{{{{ '<|im_start|>' + m.role + '\\n' + {said} + "
        "'<|im_end|>\\n' }}{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ '{begin}' }}}}{{% endif %}}"
    )


_ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Turns must alternate: user, assistant, user.') }}{% endif %}{% endfor %}"
)
_LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
_MAMBA = {
    "layer_types": ["mamba", "attention"], "mamba_n_heads": 4, "mamba_d_head": 32,
    "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_expand": 2, "num_local_experts": 0,
    "num_experts_per_tok": 0, "shared_intermediate_size": 128, "output_router_logits": False,
}  # fmt: skip

OWN_STUDENTS = {
    # bos begins every turn; a system prompt where there is none
    "smollm2": Own(
        tokens=Family(
            special=("<|endoftext|>", "<|im_start|>", IM_END), bos="<|im_start|>", eos=IM_END
        ),
        template=_chatml(
            "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are small."
            "<|im_end|>\\n' }}{% endif %}"
        ),
        contract=_contract(IM_END, bos=True),
        kind="llama",
        place="config",
    ),
    # today's date, and a switch that is on unless it is turned off
    "smollm3": Own(
        tokens=Family(special=("<|begin_of_text|>", "<|im_start|>", IM_END), eos=IM_END),
        template=_chatml(
            "{% set on = enable_thinking if enable_thinking is defined else true %}"
            "{{ '<|im_start|>system\\nToday: ' + strftime_now('%d %B %Y') + '\\nMode: ' + "
            "('/think' if on else '/no_think') + '\\n' }}{% if messages[0].role == 'system' %}"
            "{{ messages[0].content }}{% set messages = messages[1:] %}{% endif %}"
            "{{ '<|im_end|>\\n' }}",
            "<|im_start|>assistant\\n' + ('' if on else '<think>\\n\\n</think>\\n') + '",
        ),
        contract=_contract(IM_END, switch="enable_thinking", date="2024-07-26"),
        kind="smollm3",
        config={"pad_token_id": 0},
    ),
    # a system turn becomes part of the user's; turns must alternate; text is trimmed
    "gemma3": Own(
        tokens=Family(special=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), bos="<bos>",
                      eos="<eos>", normalised=False),
        template=(
            "{{ bos_token }}{% set first = '' %}{% if messages[0].role == 'system' %}"
            "{% set first = messages[0].content + '\\n\\n' %}{% set messages = messages[1:] %}"
            f"{{% endif %}}{_ALTERNATE}{{% for m in messages %}}"
            "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + "
            "(first if loop.first else '') }}{{ m.content | trim }}{{ '<end_of_turn>\\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
        ),
        contract=_contract("<end_of_turn>", bos=True, eos=["<eos>"]),
        kind="gemma3_text",
        config={"head_dim": 32, "layer_types": ["sliding_attention", "full_attention"],
                "query_pre_attn_scalar": 32},
        generation_eos=("<eos>", "<end_of_turn>"),
    ),
    # tokens stand without line ends; the end of the text is written where nothing follows
    "phi4-mini": Own(
        tokens=Family(special=("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>",
                               "<|end|>"), bos="<|endoftext|>"),
        template=(
            "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
            "{{ '<|assistant|>' if add_generation_prompt else eos_token }}"
        ),
        contract=_contract("<|end|>", eos=["<|endoftext|>"]),
        kind="phi3",
        config={"pad_token_id": 0, "max_position_embeddings": 2048,
                "original_max_position_embeddings": 2048},
    ),
    # no generation prompt at all; several templates of which one is the default; no system turn
    "mistral": Own(
        tokens=Family(special=("<s>", "</s>", "[INST]", "[/INST]"), bos="<s>", eos="</s>",
                      normalised=False),
        template=(
            f"{_ALTERNATE}{{{{ bos_token }}}}{{% for m in messages %}}{{% if m.role == 'user' %}}"
            "{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}"
            "{% endif %}{% endfor %}"
        ),
        contract=_contract("</s>", bos=True, system=False),
        kind="mistral",
        place="named",
        forgets_system=True,
    ),
    # tags of its own
    "ministral": Own(
        tokens=Family(special=("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]",
                               "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]"), bos="<s>", eos="</s>"),
        template=(
            "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
            "{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}{% elif m.role == 'user' %}"
            "{{ '[INST]' + m.content + '[/INST]' }}{% else %}{% if m.thinking %}"
            "{{ '[THINK]' + m.thinking + '[/THINK]' }}{% endif %}{{ m.content + eos_token }}"
            "{% endif %}{% endfor %}"
        ),
        contract=_contract("</s>", bos=True, opens="[THINK]", closes="[/THINK]"),
        kind="ministral",
        config={"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 512,
                "head_dim": 32},
    ),
    # bos, the end of a turn and padding are one token; roles are plain text
    "olmo2": Own(
        tokens=Family(special=("<|endoftext|>",), bos="<|endoftext|>"),
        template=(
            "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}"
            "{{ eos_token if m.role == 'assistant' }}{{ '\\n' if not loop.last or m.role == 'user' "
            "}}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
        ),
        contract=_contract("<|endoftext|>", bos=True),
        kind="olmo2",
    ),
    # the prompt opens the think block, without a line end; past reasoning goes
    "olmo3-think": Own(
        tokens=Family(special=("<|endoftext|>", "<|im_start|>", IM_END), eos="<|endoftext|>"),
        template=_chatml(
            begin="<|im_start|>assistant\\n<think>", said="m.content.split('</think>')[-1].lstrip()"
        ),
        contract=_contract(
            IM_END, think="prefilled", opens="<think>", closes="</think>", past_reasoning=False,
            eos=["<|endoftext|>"],
        ),
        kind="olmo3",
        config={"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 512},
        generation_eos=(IM_END, "<|endoftext|>"),
    ),
    # a date in the default system turn; thinking is a request there, off where nothing is said
    "granite3": Own(
        tokens=Family(special=("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
                      bos="<|end_of_text|>", eos="<|end_of_text|>"),
        template=(
            "{% if messages[0].role != 'system' %}{{ '<|start_of_role|>system<|end_of_role|>Today "
            "is ' + strftime_now('%B %d, %Y') + '.' }}{% if thinking %}{{ ' Think first.' }}"
            "{% endif %}{{ '<|end_of_text|>\\n' }}{% endif %}{% for m in messages %}"
            "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\\n'"
            " }}{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
        ),
        contract=_contract("<|end_of_text|>", switch="thinking", date="2024-07-26"),
        kind="granite",
        config={"logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22,
                "attention_multiplier": 0.0625},
    ),
    # Mamba beside attention
    "granite4": Own(
        tokens=Family(special=("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
                      bos="<|end_of_text|>", eos="<|end_of_text|>"),
        template=(
            "{% for m in messages %}{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' }}"
            "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
            "{{ part.text }}{% endfor %}{% endif %}{{ '<|end_of_text|>\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}"
            "{% endif %}"
        ),
        contract=_contract("<|end_of_text|>"),
        kind="granitemoehybrid",
        config={**_MAMBA, "logits_scaling": 6.0},
        recurrent=True,
    ),
    # thinking is off where nothing is said: then the block is opened and closed at once
    "qwen3.5": Own(
        tokens=Family(special=("<|endoftext|>", "<|im_start|>", IM_END),
                      added=("<think>", "</think>"), eos=IM_END),
        template=(
            "{% for m in messages %}{% set said = m.content %}{% if m.role == 'assistant' %}"
            "{% set said = said.split('</think>')[-1].lstrip() %}{% if m.reasoning_content and "
            "loop.last %}{% set said = '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' + "
            "said %}{% endif %}{% endif %}{{ '<|im_start|>' + m.role + '\\n' + said + "
            "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is defined and enable_thinking "
            "%}{{ '<think>\\n' }}{% else %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
            "{% endif %}"
        ),
        contract=_contract(
            IM_END, think="prefilled", past_reasoning=False, switch="enable_thinking",
            eos=["<|endoftext|>"],
        ),
        kind="qwen3_5_text",
        config={**_LINEAR, "head_dim": 32},
        generation_eos=(IM_END, "<|endoftext|>"),
        recurrent=True,
        closed_by_default=True,
    ),
    # short convolutions; past reasoning goes unless the template is told to keep it
    "lfm2": Own(
        tokens=Family(special=("<|startoftext|>", "<|im_start|>", IM_END), bos="<|startoftext|>",
                      eos=IM_END, normalised=False),
        template=_chatml(
            "{{ bos_token }}",
            said="(m.content if keep_past_thinking else m.content.split('</think>')[-1] | trim)",
        ),
        contract=_contract(IM_END, bos=True, past_reasoning=False),
        kind="lfm2",
        config={"layer_types": ["conv", "full_attention"], "conv_L_cache": 3,
                "block_auto_adjust_ff_dim": False},
        recurrent=True,
    ),
}  # fmt: skip


def make_own_student(name: str, folder: Path, weights: bool = False) -> Path:
    """A student's folder: tokenizer and configuration; random `weights` if asked for."""
    own = OWN_STUDENTS[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = fast_tokenizer(own.tokens)
    tokenizer.save_pretrained(folder)
    if own.place == "file":
        (folder / "chat_template.jinja").write_text(own.template)
    else:
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text())
        named = [
            {"name": "default", "template": own.template},
            {"name": "tool_use", "template": "x"},
        ]
        config["chat_template"] = named if own.place == "named" else own.template
        path.write_text(json.dumps(config))
    ends = [tokenizer.convert_tokens_to_ids(token) for token in own.generation_eos]
    if ends:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {
        "vocab_size": (len(tokenizer) + 63) // 64 * 64,
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1,  # vLLM knows no head below 32 on a CPU
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": True, **own.config,
    }  # fmt: skip
    config = AutoConfig.for_model(own.kind, **values)
    config.save_pretrained(folder)
    if weights:
        import torch

        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def vendor_template(name: str) -> str:
    """A vendor's chat template, word for word, of those that trl comes with."""
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
