"""What the student is trained on is what it will see: every family, against real prompts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rendering import examples, loaded, rendered, settings
from students import FAMILIES, TEMPLATES

from finetune.render import BATCH, render
from finetune.sample import IGNORED
from finetune.tokenizer import as_messages, load_tokenizer, prompt_text
from generate.engine import Request, Response
from generate.prompts import render_prompt, why_unsent
from generate.vllm_engine import Model, VllmEngine
from tracestill.recipe.contract import Contract, read_contract
from tracestill.records import Sampling


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


def test_one_trace_in_a_hundred_may_go_by_itself(students: dict[str, Path]) -> None:
    asked = examples(250)
    for at in (20, 70):
        asked[at] = dataclasses.replace(asked[at], answer="4<|im_end|>")
    _, made = rendered(students, "chatml-think", asked)
    assert len(made.samples) == 248
    assert made.dropped == {"unlearnable": 2}
    assert made.refused.lines()[0].startswith("2 traces, first t20: its text has <|im_end|>")
    with pytest.raises(ValueError, match=r"^2 traces, first t20"):
        rendered(students, "chatml-think", asked, unlearnable="error")
    asked[90] = dataclasses.replace(asked[90], answer="4<|im_end|>")
    with pytest.raises(ValueError, match=r"^3 traces, first t20"):
        rendered(students, "chatml-think", asked)


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
