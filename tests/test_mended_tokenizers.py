"""Tokenizers that lose what they are given: a student's and a teacher's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_students import make_own_student
from rendering import examples
from students import TEMPLATES, make_student
from test_own_templates import prepared, section
from tokenizers import normalizers

from finetune.prepare import prepare
from finetune.render import render
from finetune.sample_checks import check_samples
from finetune.tokenizer import as_messages, load_tokenizer
from generate.engine import Request
from generate.vllm_engine import Model, VllmEngine
from tracestill.records import Sampling
from tracestill.records.tokenizers import keeps_space


def without_space(folder: Path) -> Path:
    """A student whose tokenizer is byte-level, but which names a class that has spaces as ▁."""
    made = make_student("r1-distill", folder)
    path = made / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"tokenizer_class": "LlamaTokenizerFast"}
    path.write_text(json.dumps(config))
    path = made / "config.json"
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | llama))
    return made


def test_a_class_that_loses_white_space_is_not_used(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    student = without_space(tmp_path / "student")
    spoiled = AutoTokenizer.from_pretrained(student)
    assert not keeps_space(spoiled)  # the trap
    path = TEMPLATES / "r1-distill.jinja"
    made = prepare(examples(), section(student, template=str(path)), str(student), path)
    assert keeps_space(made.tokenizer)
    whole = made.tokenizer.decode(made.rendered.samples[0].input_ids)
    assert examples()[0].prompt in whole
    # Where tokenizer.json loses it too, the cause is named.
    text = json.loads((student / "tokenizer.json").read_text())
    text["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    (student / "tokenizer.json").write_text(json.dumps(text))
    with pytest.raises(
        ValueError, match=r"^finetune\.student: .*read as the class LlamaTok.*loses"
    ):
        load_tokenizer(str(student), None, path)


def test_a_problem_that_the_tokenizer_changes_is_found(tmp_path: Path) -> None:
    folder = make_own_student("gemma3", tmp_path)
    made = prepared(folder)
    inner = made.tokenizer.backend_tokenizer
    inner.normalizer = normalizers.Replace("What", "Why")
    contract, settings = made.rendered.contract, section(folder)
    again = render(examples(), made.tokenizer, contract, settings)
    with pytest.raises(ValueError, match=r"its problem's 'What is 1 .*' becomes 'Why is 1"):
        check_samples(again, examples(), made.tokenizer, made.config, system=None, max_length=512)


@pytest.mark.slow
def test_a_teachers_tokenizer_is_mended_too_and_its_template_checked(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="needs vLLM")
    teacher = without_space(tmp_path / "teacher")
    (teacher / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system turn.') }}{% endif %}"
        "{{ bos_token + messages[0].content + '<｜Assistant｜><think>\\n' }}"
    )
    model = Model(path=str(teacher), max_model_len=256, engine_args={"load_format": "dummy"})
    engine = VllmEngine(model, Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=2, seed=0))
    try:
        said = "What is 1 + 1?\n\n  Say  why."
        request = Request(id="r", messages=as_messages(said, None), seed=0)
        ids, prefill = engine._render(request)
        assert said in engine._tokenizer.decode(ids)
        assert prefill == "<think>"
        (response,) = filter(None, engine.stream([request]))
        assert response.finish == "length"
        refused = Request(id="s", messages=as_messages(said, "Be brief."), seed=0)
        with pytest.raises(
            ValueError, match=r"the chat template of .* refuses the chat: No system"
        ):
            list(engine.stream([refused]))
    finally:
        engine.close()
