"""What the student is trained on is what it will see: every family, against real engines' prompts,
and the traps that a trainer's own rendering falls into.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from students import FAMILIES, TEMPLATES
from transformers import AutoConfig

from finetune.overlong import describe
from finetune.packing import batch, pack
from finetune.render import BATCH, Rendered, render
from finetune.sample import IGNORED, Example
from finetune.sample_checks import check_samples
from finetune.tokenizer import as_messages, load_tokenizer, prompt_text
from generate.engine import Request, Response
from generate.prompts import render_prompt, why_unsent
from generate.vllm_engine import Model, VllmEngine
from tracestill.recipe.contract import Contract, read_contract
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records import Sampling


def settings(name: str, **values: Any) -> FinetuneSection:
    template = str(TEMPLATES / f"{name}.jinja")
    return FinetuneSection(**{"student": "x", "template": template, "max_length": 512, **values})


def loaded(students: dict[str, Path], name: str) -> Any:
    template = TEMPLATES / f"{name}.jinja"
    return load_tokenizer(str(students[name]), None, template, trust_remote_code=True)


def rendered(
    students: dict[str, Path], name: str, examples: list[Example], **values: Any
) -> tuple[Any, Rendered]:
    section = settings(name, **values)
    tokenizer = loaded(students, name)
    contract = read_contract(Path(section.template), section)
    return tokenizer, render(examples, tokenizer, contract, section)


def examples(count: int = 3, **values: Any) -> list[Example]:
    made = [
        Example(
            trace_id=f"t{n}",
            prompt=f"What is {n} + 12?\n",
            reasoning=f" Okay, so {n} + 12.\n\n    12 + {n} = {n + 12} — süß 😀.\n>",
            answer=f"\nThe final answer is \\boxed{{{n + 12}}}.\n",
            language=("en", "de")[n % 2],
        )
        for n in range(count)
    ]
    return [dataclasses.replace(one, **values) for one in made]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_sample_is_the_prompt_of_inference_and_the_whole_completion(
    students: dict[str, Path], name: str, system: str | None
) -> None:
    tokenizer, made = rendered(students, name, examples(), system_prompt=system)
    contract = made.contract
    for sample, example in zip(made.samples, examples(), strict=True):
        prompt = tokenizer.apply_chat_template(
            as_messages(example.prompt, system), add_generation_prompt=True, tokenize=True,
            return_dict=False, language=example.language,
        )  # fmt: skip
        ids = sample.input_ids
        assert ids[: sample.prompt].tolist() == prompt
        assert (sample.labels[: sample.prompt] == IGNORED).all()
        assert (sample.labels[sample.prompt :] == ids[sample.prompt :]).all()
        assert ids.dtype == np.int32
        assert ids[-1] == made.endings[0] == tokenizer.convert_tokens_to_ids(contract.stop)
        reasoning, answer = example.reasoning.strip(), example.answer.strip()
        whole = tokenizer.decode(ids[sample.prompt : -1])
        assert whole == f"{contract.opening}{reasoning}{contract.closes}{answer}"
        learnt = tokenizer.decode(ids[sample.prompt : sample.answer])
        assert learnt.strip() == f"{contract.opening}{reasoning}{contract.closes}".strip()
        assert "</think>" not in tokenizer.decode(ids[sample.prompt : sample.answer - 1])
        assert tokenizer.decode(ids[sample.answer : -1]).strip() == answer


def test_prompts_are_those_of_vllm(
    students: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vllm", reason="needs vLLM")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm.engine.arg_utils import EngineArgs
    from vllm.renderers import ChatParams, renderer_from_config

    for name in FAMILIES:
        tokenizer, made = rendered(students, name, examples())
        arguments = EngineArgs(
            model=str(students[name]), trust_remote_code=name == "teuken", enforce_eager=True
        )
        chat = renderer_from_config(arguments.create_engine_config())  # as LLM.chat has it
        for sample, example in zip(made.samples, examples(), strict=True):
            told = {"add_generation_prompt": True, "language": example.language}
            _, (prompt,) = chat.render_chat(
                [as_messages(example.prompt, None)],
                ChatParams(chat_template=tokenizer.chat_template, chat_template_kwargs=told),
            )
            assert sample.input_ids[: sample.prompt].tolist() == prompt["prompt_token_ids"], name


def test_the_prompt_of_the_projects_engine_is_the_same(students: dict[str, Path]) -> None:
    for name in FAMILIES:
        tokenizer, made = rendered(students, name, examples())
        alone = loaded(students, name)
        for sample, example in zip(made.samples, examples(), strict=True):
            messages = as_messages(example.prompt, None)
            request = Request(id="r", messages=messages, seed=None, language=example.language)
            ids, prefill = render_prompt(alone, request, tokenizer.chat_template, name)
            assert why_unsent(alone, ids, request) is None
            assert sample.input_ids[: sample.prompt].tolist() == ids, name
            assert bool(prefill) == (made.contract.think == "prefilled")


class Recording(VllmEngine):
    """Keeps the prompts that vLLM says it has worked at."""

    prompts: dict[str, list[int]]

    def _response(self, output: Any, asked: Any) -> Response:
        self.prompts[output.request_id] = list(output.prompt_token_ids)
        return super()._response(output, asked)


@pytest.mark.parametrize(
    "name",
    [
        "miniature",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("r1-distill", "qwen2.5", "llama-3")
        ),
    ],
)
def test_a_running_engine_reads_the_prompts_that_are_trained(
    students: dict[str, Path], name: str
) -> None:
    pytest.importorskip("vllm", reason="needs vLLM")
    asked = examples()
    tokenizer, made = rendered(students, name, asked, system_prompt="Be brief.")
    weights = {} if name == "miniature" else {"load_format": "dummy"}  # the others have none
    model = Model(
        path=str(students[name]), max_model_len=256, engine_args=weights,
        chat_template=tokenizer.chat_template,
    )  # fmt: skip
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=2, seed=0)
    engine = Recording(model, sampling)
    engine.prompts = {}
    try:
        requests = [
            Request(
                id=one.trace_id,
                messages=as_messages(one.prompt, "Be brief."),
                seed=0,
                language=one.language,
            )
            for one in asked
        ]
        assert sum(1 for response in engine.stream(requests) if response) == len(asked)
    finally:
        engine.close()
    for sample in made.samples:
        assert engine.prompts[sample.trace_id] == sample.input_ids[: sample.prompt].tolist()


def test_batches_keep_the_order_and_ids_are_the_tokenizers_own(students: dict[str, Path]) -> None:
    many = examples(BATCH + 2)
    tokenizer, made = rendered(students, "llama-3", many)
    assert [sample.trace_id for sample in made.samples] == [one.trace_id for one in many]
    for sample, example in list(zip(made.samples, many, strict=True))[:: BATCH // 2]:
        text = f"<think>\n{example.reasoning.strip()}\n</think>\n\n{example.answer.strip()}"
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert sample.input_ids[sample.prompt : -1].tolist() == own


def test_what_a_tokenizers_file_would_cut_or_fill_up_is_whole(
    students: dict[str, Path], tmp_path: Path
) -> None:
    tokenizer = loaded(students, "qwen2.5")
    plain = render(
        examples(), tokenizer, read_contract(TEMPLATES / "qwen2.5.jinja", settings("qwen2.5")),
        settings("qwen2.5"),
    )  # fmt: skip
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=300)
    again = render(examples(), tokenizer, plain.contract, settings("qwen2.5"))
    for one, other in zip(plain.samples, again.samples, strict=True):
        assert (one.input_ids == other.input_ids).all()


# --- what trainers' own rendering does to reasoning, and ours does not

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
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
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


def test_teukens_prompt_is_in_the_language_of_the_problem(students: dict[str, Path]) -> None:
    tokenizer = loaded(students, "teuken")
    german = prompt_text(tokenizer, "Hallo", language="de")
    assert german.startswith("System: Ein Gespräch zwischen einem Menschen")
    assert prompt_text(tokenizer, "Hallo", language="de-AT") == german
    assert prompt_text(tokenizer, "Hi", language="en").startswith("System: A chat between")
    assert prompt_text(tokenizer, "Hi", language="ja") == prompt_text(tokenizer, "Hi")
    assert prompt_text(tokenizer, "Hi", "Be brief.", "de") == (
        "System: Be brief.\nUser: Hi\nAssistant: "
    )
    with pytest.raises(ValueError, match=r"set finetune\.trust_remote_code to true"):
        load_tokenizer(str(students["teuken"]), None, TEMPLATES / "teuken.jinja")


# --- what is too long


def long_examples() -> list[Example]:
    short = examples(4, source="short")
    long = Example(
        trace_id="long", prompt="x", reasoning="1 + 12\n" * 200, answer="12", source="hard"
    )
    return [*short, long]


def test_what_is_too_long_is_left_out_whole_and_counted(students: dict[str, Path]) -> None:
    _, made = rendered(students, "chatml-think", long_examples())
    assert [sample.trace_id for sample in made.samples] == ["t0", "t1", "t2", "t3"]
    assert made.dropped == {"overlong": 1}
    long = made.overlong
    details = json.loads(json.dumps(dataclasses.asdict(long)))
    kept = sum(len(sample.input_ids) for sample in made.samples)
    assert details["by_source"]["hard"]["share_of_tokens"] == 1.0
    assert details["by_source"]["short"]["long_traces"] == 0
    assert details["share_of_traces"] == 0.2
    assert details["mean_kept"] == kept / 4
    assert details["mean_long"] == details["long_tokens"] == details["longest"] > 512
    lines = describe(long)
    assert lines[0].startswith("1 of 5 traces are longer than 512 tokens: left out, 20.0% of the")
    assert any(line.startswith("  hard: 100.0% of the traces") for line in lines)
    _, none = rendered(students, "chatml-think", examples())
    assert describe(none.overlong) == []


def test_what_is_too_long_is_an_error_if_asked_for(students: dict[str, Path]) -> None:
    message = r"1 of 5 traces are longer .*; the longest, long, has .*overlong to drop or prefix"
    with pytest.raises(ValueError, match=message):
        rendered(students, "chatml-think", long_examples(), overlong="error")


@pytest.mark.parametrize("name", ["chatml-think", "qwen2.5", "teuken"])
def test_a_prefix_is_the_beginning_of_the_sample_without_an_end(
    students: dict[str, Path], name: str
) -> None:
    long = long_examples()[-1]
    _, whole = rendered(students, name, [long], max_length=4096)
    _, made = rendered(students, name, long_examples(), overlong="prefix")
    one, prefix = whole.samples[0], made.samples[-1]
    assert [sample.cut for sample in made.samples] == [False] * 4 + [True]
    assert prefix.trace_id == "long"
    assert len(prefix.input_ids) == 512
    assert (prefix.input_ids == one.input_ids[:512]).all()
    assert prefix.prompt == one.prompt
    assert (prefix.labels[: prefix.prompt] == IGNORED).all()
    assert (prefix.labels[prefix.prompt :] == one.input_ids[one.prompt : 512]).all()
    assert not {*made.endings} & {*prefix.input_ids[prefix.prompt :].tolist()}
    assert prefix.answer == 512, "the cut is in the reasoning"
    assert made.dropped == {}
    assert (made.overlong.long_traces, made.overlong.no_room) == (1, 0)
    assert made.overlong.cut_tokens == len(one.input_ids) - 512
    lines = describe(made.overlong)
    assert lines[0].startswith("1 of 5 traces are longer than 512 tokens: cut there, without a")
    assert f"{made.overlong.cut_tokens:,} tokens after the cuts are not trained on" in lines[-1]


def test_packed_prefixes_fit_their_rows_and_end_without_a_target(
    students: dict[str, Path],
) -> None:
    _, made = rendered(students, "chatml-think", long_examples(), overlong="prefix")
    samples = made.samples
    packed = pack([len(sample.input_ids) for sample in samples], 512)
    assert all(sum(len(samples[index].input_ids) for index in row) <= 512 for row in packed)
    targets = batch(samples, [[len(samples) - 1]]).targets
    assert targets[-1] == IGNORED
    assert targets[-2] == samples[-1].input_ids[-1]


def test_the_cut_can_fall_anywhere(students: dict[str, Path]) -> None:
    """In the think tag, in the reasoning, in a character, in the answer, before the stop token."""
    for name in ("qwen2.5", "teuken"):
        (example,) = examples(1)
        _, whole = rendered(students, name, [example])
        one = whole.samples[0]
        for length in range(one.prompt + 1, len(one.input_ids) + 1):
            tokenizer, made = rendered(
                students, name, [example], overlong="prefix", max_length=length
            )
            (sample,) = made.samples
            assert sample.cut == (length < len(one.input_ids))
            assert (sample.input_ids == one.input_ids[:length]).all()
            assert sample.answer == min(one.answer, length)
            config = AutoConfig.from_pretrained(students[name])
            check_samples(made, [example], tokenizer, config, system=None, max_length=length)


def test_a_prompt_that_leaves_no_room_is_left_out_and_counted(students: dict[str, Path]) -> None:
    huge = Example(trace_id="huge", prompt="1 + 12\n" * 200, reasoning="x", answer="y")
    _, made = rendered(students, "chatml-think", [*examples(4), huge], overlong="prefix")
    assert [sample.trace_id for sample in made.samples] == ["t0", "t1", "t2", "t3"]
    assert made.dropped == {"overlong": 1}
    assert describe(made.overlong)[-1] == "  1 left out, since the prompt alone is that long"
    with pytest.raises(ValueError, match=r"the prompt of every trace alone fills finetune\.max_l"):
        rendered(students, "chatml-think", [huge], overlong="prefix")


def test_a_recipe_that_splits_is_told_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"split is no more.* write prefix") as told:
        settings("chatml-think", overlong="split")
    assert len(told.value.errors()) == 1  # type: ignore[attr-defined]


# --- what is refused


@pytest.mark.parametrize(
    ("values", "example", "message"),
    [
        ({"stop": "<|nothing|>"}, {}, "is not one token of the student's vocabulary"),
        ({"think": "generated"}, {}, "set finetune.think to prefilled"),
        ({}, {"reasoning": "a </think> b"}, "trace t0: it has a think tag"),
        ({}, {"answer": "<think>"}, "trace t0: it has a think tag"),
        ({}, {"answer": "4<|im_end|>"}, r"trace t0: its text has <\|im_end\|>, which"),
        ({}, {"reasoning": "a<|endoftext|>"}, r"trace t0: its text has <\|endoftext\|>"),
    ],
)
def test_a_sample_that_would_teach_something_else_is_refused(
    students: dict[str, Path], values: dict[str, Any], example: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rendered(students, "chatml-think", examples(1, **example), **values)


@pytest.mark.parametrize(
    ("name", "text", "token"),
    [
        ("qwen2.5", "it says <|im_start|>user here", "<|im_start|>"),
        ("llama-3", "a<|start_header_id|>b", "<|start_header_id|>"),
        ("llama-3", "a<|begin_of_text|>b", "<|begin_of_text|>"),
        # A plain token to the tokenizer, with which the template begins a turn.
        ("r1-distill", "the token <｜User｜>, then", "<｜User｜>"),
        ("miniature", "a<|user|>b", "<|user|>"),
        ("teuken", "a</s>b", "</s>"),
    ],
)
@pytest.mark.parametrize("part", ["prompt", "reasoning", "answer"])
def test_text_that_becomes_a_control_token_is_refused(
    students: dict[str, Path], name: str, text: str, token: str, part: str
) -> None:
    whose = "its problem has" if part == "prompt" else "its text has"
    with pytest.raises(ValueError, match=re.escape(f"trace t0: {whose} {token}, which")):
        rendered(students, name, examples(1, **{part: text}))


def test_traces_with_the_same_fault_are_counted_and_the_first_is_named(
    students: dict[str, Path],
) -> None:
    asked = examples(9)
    for at in (2, 4, 7):
        asked[at] = dataclasses.replace(asked[at], answer="4<|im_end|>")
    asked[5] = dataclasses.replace(asked[5], reasoning="a </think> b")
    message = r"^3 traces, first t2: its text has <\|im_end\|>, .*; trace t5: it has a think tag"
    with pytest.raises(ValueError, match=f"{message}.*Set finetune.unlearnable to drop") as caught:
        rendered(students, "chatml-think", asked)
    assert "\n" not in str(caught.value)
    _, made = rendered(students, "chatml-think", asked, unlearnable="drop")
    assert [sample.trace_id for sample in made.samples] == ["t0", "t1", "t3", "t6", "t8"]
    assert made.dropped == {"unlearnable": 4}
    with pytest.raises(ValueError, match=r"^trace t2: its text has"):
        rendered(students, "chatml-think", [asked[2]], unlearnable="drop")


def test_no_trace_is_told(students: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="no trace was kept to train on"):
        rendered(students, "chatml-think", [])


# --- contracts


def test_every_template_has_a_contract_and_every_contract_a_template() -> None:
    templates = {path.stem for path in TEMPLATES.glob("*.jinja")}
    assert templates == {path.stem for path in TEMPLATES.glob("*.yaml")} == set(FAMILIES)
    for name in templates:
        contract = read_contract(TEMPLATES / f"{name}.jinja", settings(name))
        assert contract.models


def test_the_recipe_stands_over_the_contract(tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{#- mine -#}")
    said = settings("x", template=str(template), think="generated", stop="<|end|>")
    assert read_contract(template, said) is None  # it is found out by trying
    (tmp_path / "mine.yaml").write_text("think: generated\nstop: '<|end|>'\neos: ['</s>']\n")
    assert read_contract(template, settings("x", stop="<|im_end|>")) == Contract(
        think="generated", stop="<|im_end|>", eos=["</s>"]
    )
    keys = {
        "opens": "<thought>", "closes": "</thought>", "eos": ["<e>"], "bos": True, "system": False,
        "past_reasoning": True, "switch": "thinking", "date": "2020-02-02", "languages": ["de"],
        "normalisation": "NFKC",
    }  # fmt: skip
    every = read_contract(template, settings("x", think="none", stop="<s>", contract=keys))
    assert every == Contract(think="none", stop="<s>", **keys)
    assert set(keys) == set(Contract.model_fields) - {"think", "stop", "models"}
    for text, message in (("stops: x", "think: "), ("[", "not YAML"), ("- x", "is a mapping")):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_contract(template, settings("x"))
