"""The template that a student comes with: its contract is found out, and the student can be trained
with it, no file of it edited.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from own_students import OWN_STUDENTS, make_own_student, vendor_template
from rendering import examples
from students import TEMPLATES, Family, fast_tokenizer
from transformers import AutoConfig

from finetune.prepare import Prepared, prepare
from finetune.probe import probe
from finetune.render import render
from finetune.sample import Example
from finetune.sample_checks import check_samples
from finetune.tokenizer import as_messages, load_tokenizer, settle_contract
from generate.engine import Request
from generate.vllm_engine import Model, VllmEngine
from tracestill.recipe.contract import Contract
from tracestill.recipe.contract_keys import OWN
from tracestill.recipe.finetune import FinetuneSection, Lora
from tracestill.records import Sampling


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("own")
    return {name: make_own_student(name, folder / name) for name in OWN_STUDENTS}


def section(folder: Path, **values: Any) -> FinetuneSection:
    return FinetuneSection(**{"student": str(folder), "max_length": 512, **values})


def prepared(folder: Path, asked: list[Example] | None = None, **values: Any) -> Prepared:
    return prepare(asked or examples(), section(folder, **values), str(folder), Path(OWN))


# Turns that begin with bos; a scale of embeddings and two kinds of layers; layers with a state.
QUICK = {"smollm2", "gemma3", "granite4"}


@pytest.mark.parametrize("name", OWN_STUDENTS)
def test_the_contract_is_found_and_the_samples_are_what_engines_see(
    own: dict[str, Path], name: str
) -> None:
    made = prepared(own[name])
    expected = OWN_STUDENTS[name].contract
    assert made.rendered.contract == expected
    tokenizer = made.tokenizer
    for sample, example in zip(made.rendered.samples, examples(), strict=True):
        ids = sample.input_ids.tolist()
        engine = tokenizer.apply_chat_template(
            as_messages(example.prompt, None), add_generation_prompt=True, return_dict=False
        )
        assert ids[: sample.prompt] == engine
        assert tokenizer.decode(ids[sample.prompt :]) == (
            f"{expected.opening}{example.reasoning.strip()}{expected.closes}"
            f"{example.answer.strip()}{expected.stop}"
        )


@pytest.mark.parametrize("name", OWN_STUDENTS)
def test_prompts_are_the_vendors_but_for_what_is_said(own: dict[str, Path], name: str) -> None:
    """Only a date and thinking that is off differ, and both are told."""
    from transformers import AutoTokenizer

    made = prepared(own[name])
    vendor = AutoTokenizer.from_pretrained(own[name])
    chat = as_messages("What is 1 + 1?", None)
    theirs = vendor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ours = made.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    off = OWN_STUDENTS[name].closed_by_default or name == "granite3"
    dated = made.rendered.contract.date is not None
    assert len(made.notes) == off + dated
    assert (ours == theirs) == (not off and not dated)
    if dated:
        assert any("finetune.contract.date" in note for note in made.notes)
        assert "26" in ours


def test_a_system_turn_that_a_template_refuses_is_refused(own: dict[str, Path]) -> None:
    for name, student in OWN_STUDENTS.items():
        if student.forgets_system:
            with pytest.raises(ValueError, match=r"finetune\.system_prompt: the template shows no"):
                prepared(own[name], system_prompt="Be brief.")
        else:
            made = prepared(own[name], system_prompt="Be brief.")
            sample = made.rendered.samples[0]
            assert "Be brief." in made.tokenizer.decode(sample.input_ids[: sample.prompt])


@pytest.mark.parametrize("name", OWN_STUDENTS)
def test_plain_solutions_are_learnt_without_reasoning(own: dict[str, Path], name: str) -> None:
    asked = [dataclasses.replace(one, reasoning="") for one in examples()]
    if name == "olmo3-think":
        with pytest.raises(ValueError, match="opens <think>, which does not go with think: none"):
            prepared(own[name], asked, think="none")
        return
    made = prepared(own[name], asked, think="none")
    for sample, example in zip(made.rendered.samples, asked, strict=True):
        text = made.tokenizer.decode(sample.input_ids[sample.prompt :])
        assert text == example.answer.strip() + made.rendered.contract.stop
        assert sample.answer == sample.prompt
    if made.rendered.contract.switch == "enable_thinking":
        end = made.tokenizer.decode(sample.input_ids[: sample.prompt]).rstrip()
        assert end.endswith("</think>")


@pytest.mark.parametrize("name", ["smollm3", "qwen3.5"])
def test_a_mixed_student_learns_both_kinds(own: dict[str, Path], name: str) -> None:
    asked = examples(4)
    asked[1] = dataclasses.replace(asked[1], reasoning="")
    asked[2] = dataclasses.replace(asked[2], reasoning=" ", prompt=asked[0].prompt)
    with pytest.raises(ValueError, match="2 traces, first t1: it has no reasoning"):
        prepared(own[name], asked)
    made = prepared(own[name], asked, mixed=True)
    for sample, example in zip(made.rendered.samples, asked, strict=True):
        prompt = made.tokenizer.decode(sample.input_ids[: sample.prompt]).rstrip()
        learnt = made.tokenizer.decode(sample.input_ids[sample.prompt :])
        if example.reasoning.strip():
            assert not prompt.endswith("</think>")
            assert learnt.count("</think>") == 1
        else:
            assert prompt.endswith("</think>")
            assert learnt == example.answer.strip() + "<|im_end|>"
    with pytest.raises(ValueError, match=r"finetune\.mixed: the template has no variable"):
        prepared(own["smollm2"], asked, mixed=True)


def test_what_a_recipe_says_stands_over_what_is_found(own: dict[str, Path]) -> None:
    keys = {"opens": "<reason>\n", "closes": "\n</reason>\n", "date": "2020-02-02", "eos": []}
    made = prepared(own["smollm3"], contract=keys)
    text = made.tokenizer.decode(made.rendered.samples[0].input_ids)
    assert "Today: 02 February 2020" in text
    assert "<|im_start|>assistant\n<reason>\n" in text
    assert made.rendered.contract == OWN_STUDENTS["smollm3"].contract.model_copy(update=keys)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('No such chat.') }}", "it refuses the chat: No such chat"),
        ("{% for m in messages %}", r"it is no Jinja template, line 1: .*end of template"),
        ("{{ messages[0].content + none }}", "it fails: "),
        ("{{ messages[0].nothing.at_all }}", "it fails: .*no attribute"),
        ("{{ bos_token }}Answer:", "leaves out what the user"),
        (
            "{{ messages[0].content + '<think>\n\n</think>\n\n' }}",
            "ends with a closed think block.*set finetune.think to none",
        ),
    ],
)
def test_a_template_that_fails_is_one_line(
    own: dict[str, Path], tmp_path: Path, template: str, message: str
) -> None:
    folder = make_own_student("olmo2", tmp_path / "student")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ValueError, match=rf"^finetune\.template: .*{message}") as caught:
        prepared(folder)
    assert "\n" not in str(caught.value)


def test_a_student_without_a_template_is_told_which_would_fit(
    own: dict[str, Path], tmp_path: Path
) -> None:
    folder = make_own_student("olmo3-think", tmp_path / "student")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"comes with no chat template.*chatml-think or qwen2\.5"):
        prepared(folder)


def test_a_template_without_a_contract_is_tried(own: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(OWN_STUDENTS["lfm2"].template)
    settings = section(own["lfm2"], template=str(path))
    tokenizer = load_tokenizer(str(own["lfm2"]), None, path)
    found = settle_contract(tokenizer, settings, path, str(own["lfm2"]))
    assert found.contract == OWN_STUDENTS["lfm2"].contract


def trained(name: str, folder: Path, **values: Any) -> Any:
    from finetune.train import train

    student = make_own_student(name, folder / "student", weights=True)
    values = {"packing": not OWN_STUDENTS[name].recurrent, **values}
    short = examples(4, reasoning="1 + 1", answer="2")  # the export's answers are twice as long
    settings = section(
        student, learning_rate=1e-2, epochs=1, max_length=256, batch_size=2, holdout=0.0,
        lora=Lora(rank=8, alpha=16), checkpoint_every=100,
        **values,
    )  # fmt: skip
    return train(
        short, settings, student=str(student), template=Path(OWN), folder=folder,
        seed=0, progress=lambda event: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in OWN_STUDENTS
    ],
)
def test_a_student_of_each_family_trains_and_passes_the_exports_gate(
    tmp_path: Path, name: str
) -> None:
    made = trained(name, tmp_path)
    assert made.figures.steps >= 1
    # The loss that was trained is the model's own: scaled logits are (Granite).
    assert made.figures.loss == pytest.approx(made.figures.export.loss_trained, rel=0.5)
    assert made.figures.export.logit_difference < 0.1
    assert (tmp_path / "merged" / "chat_template.jinja").is_file()


# vLLM 0.32 on a CPU loads none of those that carry a state: with its cache of prefixes it wants
# chunked prefill for them, which breaks seeded requests there.
@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, own in OWN_STUDENTS.items() if not own.recurrent])
def test_vllm_serves_a_student_of_each_family(tmp_path: Path, name: str) -> None:
    pytest.importorskip("vllm", reason="needs vLLM")
    trained(name, tmp_path)
    merged = tmp_path / "merged"
    made = prepared(tmp_path / "student")
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=4, seed=0)
    engine = VllmEngine(Model(path=str(merged), max_model_len=256), sampling)
    try:
        asked = [
            Request(id=one.trace_id, messages=as_messages(one.prompt, None), seed=0)
            for one in examples()
        ]
        for request, sample in zip(asked, made.rendered.samples, strict=True):
            ids, _ = engine._render(request)
            assert ids == sample.input_ids[: sample.prompt].tolist()
        found = [response for response in engine.stream(asked) if response is not None]
        assert [response.error for response in found] == [None] * len(asked)
    finally:
        engine.close()


@pytest.mark.parametrize("name", ["lfm2", "qwen3.5", "granite4"])
def test_layers_with_a_state_are_told_to_do_without_packing(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=r"into the next sample.*: set finetune\.packing to false$"
    ):
        trained(name, tmp_path, packing=True, attention="sdpa")


# --- vendors' own templates, as trl has them: template, tokens, bos, and what differs from a
# contract with `generated`, a system turn and past reasoning kept

_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
VENDORS: list[tuple[str, tuple[str, ...], str | None, dict[str, Any]]] = [
    ("qwen2_5", _QWEN, None, {"stop": "<|im_end|>"}),
    ("qwen3", _QWEN, None, {"stop": "<|im_end|>", "switch": "enable_thinking",
                            "past_reasoning": False}),
    ("qwen3_instruct_2507", _QWEN, None, {"stop": "<|im_end|>"}),
    ("qwen3_5_think", _QWEN, None, {"stop": "<|im_end|>", "think": "prefilled",
                                    "switch": "enable_thinking", "past_reasoning": False}),
    ("qwen3_5_nothink", _QWEN, None, {"stop": "<|im_end|>", "think": "prefilled",
                                      "switch": "enable_thinking", "past_reasoning": False}),
    ("gemma", ("<bos>", "<start_of_turn>", "<end_of_turn>"), "<bos>",
     {"stop": "<end_of_turn>", "bos": True, "system": False}),
    ("gemma3", ("<bos>", "<start_of_turn>", "<end_of_turn>"), "<bos>",
     {"stop": "<end_of_turn>", "bos": True}),
    ("llama3", _LLAMA, "<|begin_of_text|>", {"stop": "<|eot_id|>", "bos": True}),
    ("llama3_1", _LLAMA, "<|begin_of_text|>", {"stop": "<|eot_id|>", "bos": True}),
    ("llama3_2", _LLAMA, "<|begin_of_text|>",
     {"stop": "<|eot_id|>", "bos": True, "date": "2024-07-26"}),
    ("deepseek_r1_distill", ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
     "<｜begin▁of▁sentence｜>", {"stop": "<｜end▁of▁sentence｜>", "bos": True, "think": "prefilled",
                                 "past_reasoning": False}),
    ("phi3_5", ("<|user|>", "<|assistant|>", "<|end|>"), None, {"stop": "<|end|>"}),
    ("lfm2", ("<|startoftext|>", "<|im_start|>", "<|im_end|>"), "<|startoftext|>",
     {"stop": "<|im_end|>", "bos": True}),
    ("lfm2_2_5", ("<|startoftext|>", "<|im_start|>", "<|im_end|>"), "<|startoftext|>",
     {"stop": "<|im_end|>", "bos": True, "past_reasoning": False, "opens": "<think>",
      "closes": "</think>"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "special", "bos", "values"), VENDORS, ids=lambda v: str(v)[:20])
def test_the_contract_of_a_vendors_template_is_found(
    name: str, special: tuple[str, ...], bos: str | None, values: dict[str, Any]
) -> None:
    text = vendor_template(name)
    tokenizer = fast_tokenizer(Family(special=special, bos=bos, eos=values["stop"]))
    found = probe(tokenizer, text, {}).contract
    assert found == Contract(**{"think": "generated", "past_reasoning": True, **values})


def test_a_template_that_reads_lists_of_parts_only_is_given_them() -> None:
    tokenizer = fast_tokenizer(Family(special=("<|im_start|>", "<end_of_utterance>")))
    template = vendor_template("smolvlm")
    found = probe(tokenizer, template, {})
    assert any("lists of parts" in note for note in found.notes)
    assert found.contract.stop == "<end_of_utterance>"
    chats = [
        [{"role": role, "content": content} for role, content in zip(roles, said, strict=True)]
        for roles in (("user",), ("system", "user"), ("user", "assistant", "user"))
        for said in [("One\n two.", "Three.", "Four?")[: len(roles)]]
    ]
    for chat in chats:
        lists = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in chat]
        texts = [
            tokenizer.apply_chat_template(
                asked, chat_template=used, tokenize=False, add_generation_prompt=True
            )
            for asked, used in (
                (chat, found.template), (lists, found.template), (lists, template),
            )
        ]  # fmt: skip
        assert texts[0] == texts[1] == texts[2]
        assert all(turn["content"] in texts[0] for turn in chat)


# --- a recipe's other templates


def test_a_bos_that_begins_every_turn_fits_any_chatml(own: dict[str, Path]) -> None:
    for bos in (None, True, False):
        path = TEMPLATES / "chatml-think.jinja"
        settings = section(own["smollm2"], template=str(path), contract={"bos": bos})
        made = prepare(examples(), settings, str(own["smollm2"]), path)
        ids = made.rendered.samples[0].input_ids.tolist()
        assert ids[0] == made.tokenizer.bos_token_id
    # Two in a row are none of this.
    folder = own["smollm2"]
    tokenizer = load_tokenizer(str(folder), None, TEMPLATES / "chatml-think.jinja")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    contract = Contract(think="prefilled", stop="<|im_end|>", bos=True)
    made_again = render(examples(), tokenizer, contract, section(folder))
    config = AutoConfig.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"its prompt has 3 <\|im_start\|> where the contract has"):
        check_samples(made_again, examples(), tokenizer, config, system=None, max_length=512)
