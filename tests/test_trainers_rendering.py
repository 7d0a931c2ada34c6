"""What a trainer's own rendering does to reasoning, and ours does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from rendering import rendered
from students import TEMPLATES
from transformers import AutoConfig

from finetune.sample import IGNORED, Example
from finetune.tokenizer import prompt_text

# The parts of the original templates that do it, in our words.
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{% else %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
    "{{ '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def trl_trains(
    student: Path, template: str | None, turn: dict[str, Any], tmp_path: Path, **options: Any
) -> tuple[Any, list[int], list[int]]:
    """What trl's trainer makes of a chat: tokenizer, ids and labels."""
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(student, trust_remote_code=True)
    if template is not None:
        tokenizer.chat_template = template
    config = AutoConfig.from_pretrained(student)
    config.num_hidden_layers, config.layer_types = 1, ["full_attention"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    rows = {"prompt": [[{"role": "user", "content": "What is 1 + 1?"}]],
            "completion": [[{"role": "assistant", **turn}]]}  # fmt: skip
    if options.get("assistant_only_loss"):
        rows = {"messages": [rows["prompt"][0] + rows["completion"][0]]}
    trainer = SFTTrainer(
        model=model.to_empty(device="cpu"),
        args=SFTConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, **options),
        train_dataset=datasets.Dataset.from_dict(rows),
        processing_class=tokenizer,
    )
    (row,) = trainer.train_dataset
    return tokenizer, row["input_ids"], [token for token in row["labels"] if token != IGNORED]


THOUGHT = "One and one.\n\nTwo."
TRACE = Example(trace_id="t", prompt="What is 1 + 1?", reasoning=THOUGHT, answer="2")


def test_r1s_template_deletes_the_reasoning_of_messages(
    students: dict[str, Path], tmp_path: Path
) -> None:
    turn = {"content": f"<think>\n{THOUGHT}\n</think>\n\n2"}
    tokenizer, _, learnt = trl_trains(students["r1-distill"], R1, turn, tmp_path)
    assert THOUGHT not in tokenizer.decode(learnt)
    assert tokenizer.decode(learnt).strip().startswith("2")  # all that is learnt
    tokenizer, made = rendered(students, "r1-distill", [TRACE])
    sample = made.samples[0]
    assert THOUGHT in tokenizer.decode(sample.input_ids[sample.prompt :])


def test_qwens_template_drops_a_field_of_reasoning(
    students: dict[str, Path], tmp_path: Path
) -> None:
    template = (TEMPLATES / "qwen2.5.jinja").read_text()
    turn = {"content": "2", "reasoning_content": THOUGHT}
    tokenizer, _, learnt = trl_trains(students["qwen2.5"], template, turn, tmp_path)
    assert THOUGHT not in tokenizer.decode(learnt)
    tokenizer, made = rendered(students, "qwen2.5", [TRACE])
    sample = made.samples[0]
    assert THOUGHT in tokenizer.decode(sample.input_ids[sample.prompt :])


def test_qwen3_with_another_fields_name_learns_an_empty_block(
    students: dict[str, Path], tmp_path: Path
) -> None:
    turn = {"content": "2", "thinking": THOUGHT}
    tokenizer, _, learnt = trl_trains(students["qwen3"], QWEN3, turn, tmp_path)
    assert "<think>\n\n</think>" in tokenizer.decode(learnt)
    tokenizer, made = rendered(students, "qwen3", [TRACE])
    sample = made.samples[0]
    assert f"<think>\n{THOUGHT}\n</think>" in tokenizer.decode(sample.input_ids)
    with pytest.raises(ValueError, match="trace t: it has no reasoning"):
        rendered(students, "qwen3", [dataclasses.replace(TRACE, reasoning=" \n")])


def test_assistant_only_loss_fails_with_a_slow_tokenizer(
    students: dict[str, Path], tmp_path: Path
) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}Assistant: {% generation %}"
        "{{ m.content + eos_token }}{% endgeneration %}{% else %}{{ 'User: ' + m.content }}"
        "{% endif %}{% endfor %}"
    )
    turn = {"content": f"<think>\n{THOUGHT}\n</think>\n\n2"}
    with pytest.raises(Exception, match=r"char_to_token|fast tokenizer|slow"):
        trl_trains(students["teuken"], template, turn, tmp_path, assistant_only_loss=True)
    tokenizer, made = rendered(students, "teuken", [TRACE])
    sample = made.samples[0]
    assert tokenizer.decode(sample.input_ids[sample.answer : -1]).strip() == "2"


def test_assistant_only_loss_learns_the_tag_that_the_prompt_has_already(
    students: dict[str, Path], tmp_path: Path
) -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}"
        "{{ m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
    )
    turn = {"content": f"<think>\n{THOUGHT}\n</think>\n\n2"}
    student = students["chatml-think"]
    tokenizer, _, learnt = trl_trains(student, template, turn, tmp_path, assistant_only_loss=True)
    assert tokenizer.decode(learnt).startswith("<think>\n")
    tokenizer, made = rendered(students, "chatml-think", [TRACE])
    sample = made.samples[0]
    assert tokenizer.decode(sample.input_ids[: sample.prompt]).endswith("<think>\n")
    assert tokenizer.decode(sample.input_ids[sample.prompt :]).startswith(THOUGHT)


def test_trl_packs_rows_of_which_nothing_is_learnt(
    students: dict[str, Path], tmp_path: Path
) -> None:
    template = (TEMPLATES / "qwen2.5.jinja").read_text()
    turn, short = {"content": "2"}, {"packing": True, "packing_strategy": "bfd", "max_length": 16}
    _, ids, learnt = trl_trains(students["qwen2.5"], template, turn, tmp_path, **short)
    assert ids
    assert learnt == []
    with pytest.raises(ValueError, match=r"every trace is longer than finetune\.max_length"):
        rendered(students, "qwen2.5", [TRACE], max_length=16)


def test_trl_cuts_at_1024_tokens_without_a_word(students: dict[str, Path], tmp_path: Path) -> None:
    long = "1 + 1 = 2. " * 300
    turn = {"content": f"<think>\n{long}\n</think>\n\n2"}
    template = (TEMPLATES / "chatml-think.jinja").read_text().replace(
        "message.content.split('</think>')[-1].lstrip('\\n')", "message.content"
    )  # fmt: skip
    tokenizer, ids, _ = trl_trains(students["chatml-think"], template, turn, tmp_path)
    whole = tokenizer(turn["content"], add_special_tokens=False)["input_ids"]
    assert len(ids) < len(whole) or ids[-1] != tokenizer.convert_tokens_to_ids("<|im_end|>")
    with pytest.raises(ValueError, match=r"every trace is longer than finetune\.max_length"):
        rendered(students, "chatml-think", [dataclasses.replace(TRACE, reasoning=long)])


def test_the_end_of_a_turn_is_learnt_not_the_base_models_end_of_text(
    students: dict[str, Path],
) -> None:
    tokenizer, made = rendered(students, "qwen2.5", [TRACE])
    assert tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.convert_ids_to_tokens(int(made.samples[0].input_ids[-1])) == "<|im_end|>"
    assert tokenizer.convert_ids_to_tokens(made.endings) == ["<|im_end|>", "<|endoftext|>"]


@pytest.mark.parametrize("name", ["llama-3", "r1-distill"])
def test_there_is_one_bos_where_the_tokenizer_would_write_another(
    students: dict[str, Path], name: str
) -> None:
    tokenizer, made = rendered(students, name, [TRACE])
    text = prompt_text(tokenizer, TRACE.prompt)
    assert tokenizer(text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2  # the trap
    sample = made.samples[0].input_ids.tolist()
    assert sample[0] == tokenizer.bos_token_id
    assert sample.count(tokenizer.bos_token_id) == 1
