"""Each way in which a sample can teach something else than the student will see is found before the
first step, with the trace's name and the fix.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rendering import examples, loaded, rendered, settings
from students import FAMILIES

from finetune.render import BATCH, Rendered, render
from finetune.sample import Example, Sample
from finetune.sample_checks import check_samples, context_length
from tracestill.recipe.contract import read_contract


def config_of(students: dict[str, Path], name: str, **values: Any) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(students[name])
    for key, value in values.items():
        setattr(config, key, value)
    return config


def check(
    students: dict[str, Path],
    name: str,
    made: Rendered,
    asked: list[Example],
    tokenizer: Any = None,
    system: str | None = None,
    **config: Any,
) -> None:
    check_samples(
        made, asked, tokenizer or loaded(students, name), config_of(students, name, **config),
        system=system, max_length=512,
    )  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_rendered_passes(students: dict[str, Path], name: str) -> None:
    for options in ({}, {"system_prompt": "Be brief."}, {"overlong": "prefix"}):
        asked = examples(5)
        asked.append(dataclasses.replace(asked[0], trace_id="long", reasoning="1 + 1\n" * 200))
        _, made = rendered(students, name, asked, **options)
        check(students, name, made, asked, system=options.get("system_prompt"))


def test_every_sample_is_looked_at(students: dict[str, Path]) -> None:
    asked = examples(BATCH + 5)
    _, made = rendered(students, "qwen2.5", asked)
    check(students, "qwen2.5", made, asked)
    last = made.samples[-1]
    made.samples[-1] = dataclasses.replace(last, input_ids=last.input_ids[:-1])
    with pytest.raises(ValueError, match=f"trace t{BATCH + 4}: it does not end with"):
        check(students, "qwen2.5", made, asked)


def changed(made: Rendered, ids: list[int], **values: int) -> Rendered:
    first = made.samples[0]
    return dataclasses.replace(
        made,
        samples=[
            dataclasses.replace(first, input_ids=np.array(ids, dtype=np.int32), **values),
            *made.samples[1:],
        ],
    )


def spoiled(made: Rendered, tokenizer: Any, how: str) -> Rendered:
    """The rendered samples with a mistake in the first."""
    sample: Sample = made.samples[0]
    ids, prompt = sample.input_ids.tolist(), sample.prompt
    stop = ids[-1]
    word = tokenizer.encode("x", add_special_tokens=False)
    if how == "prompt":
        return changed(made, [*ids[: prompt - 1], *word, *ids[prompt:]])
    if how == "second bos":
        return changed(made, [ids[0], *ids], prompt=prompt + 1, answer=sample.answer + 1)
    if how == "shifted":  # the prompt's last token is learnt
        return changed(made, ids, prompt=prompt - 1)
    if how == "cut":
        return changed(made, [*ids[: prompt + 20], stop])
    if how == "no stop":
        return changed(made, ids[:-1])
    if how == "two stops":
        return changed(made, [*ids, stop])
    if how == "stop inside":
        return changed(made, [*ids[: prompt + 5], stop, *ids[prompt + 5 :]])
    if how == "another word":
        return changed(made, [*ids[: prompt + 15], *word, *ids[prompt + 15 :]])
    if how == "no think":
        return changed(made, [*ids[:prompt], *ids[sample.answer :]], answer=prompt)
    if how == "beyond the vocabulary":
        return changed(made, [*ids[:-2], 10**6, stop])
    assert how == "too long"
    return changed(made, [*ids[:-1], *word * 512, stop])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("prompt", "trace t0: its prompt is not what the student will see"),
        ("second bos", "trace t0: its prompt is not what the student will see"),
        ("shifted", "trace t0: its prompt is not what the student will see"),
        ("cut", "trace t0: its completion has not one <think> and one </think>"),
        ("no stop", r"trace t0: it does not end with the one stop token <\|eot_id\|>"),
        ("two stops", "trace t0: it does not end with the one stop token"),
        ("stop inside", "trace t0: it does not end with the one stop token"),
        ("another word", "trace t0: its reasoning becomes .* where the teacher wrote"),
        ("no think", "trace t0: its completion has not one <think> and one </think>"),
        ("beyond the vocabulary", "trace t0 has token 1000000, but the model only"),
        ("too long", r"trace t0 has [0-9,]+ tokens, more than finetune\.max_length"),
    ],
)
def test_a_mistake_names_the_trace_and_the_fix(
    students: dict[str, Path], how: str, message: str
) -> None:
    asked = examples()
    tokenizer, made = rendered(students, "llama-3", asked)
    with pytest.raises(ValueError, match=message) as caught:
        check(students, "llama-3", spoiled(made, tokenizer, how), asked)
    assert "\n" not in str(caught.value)


def test_another_chat_than_at_inference_is_found(students: dict[str, Path]) -> None:
    asked = examples()
    tokenizer, made = rendered(students, "qwen3", asked)
    with pytest.raises(ValueError, match="its prompt is not what the student will see"):
        check(students, "qwen3", made, asked, system="Be brief.")
    tokenizer.chat_template += "{{ ' ' }}"
    with pytest.raises(ValueError, match="was the template changed"):
        check(students, "qwen3", made, asked, tokenizer)


@pytest.mark.parametrize(
    ("template", "bos", "message"),
    [
        ("{{ bos_token + bos_token }}", True, "its prompt has 2 .* where the contract has one"),
        ("", True, "its prompt has 0 .* where the contract has one"),
        ("{{ bos_token }}", False, r"set finetune\.contract\.bos to true"),
    ],
)
def test_the_bos_token_is_where_the_contract_has_it(
    students: dict[str, Path], tmp_path: Path, template: str, bos: bool, message: str
) -> None:
    tokenizer, made = rendered(students, "r1-distill", examples())
    contract = made.contract.model_copy(update={"bos": bos})
    tokenizer.chat_template = template + "{{ messages[0].content + '<｜Assistant｜><think>\\n' }}"
    made = render(examples(), tokenizer, contract, settings("r1-distill"))
    with pytest.raises(ValueError, match=message):
        check(students, "r1-distill", made, examples(), tokenizer)


def test_text_that_a_tokenizer_changes_is_refused_unless_that_is_declared(
    students: dict[str, Path],
) -> None:
    # Qwen's tokenizers compose accents (NFC): known, and so do the checks.
    asked = examples(1, reasoning="cafe\u0301: 1 + 1")
    tokenizer, made = rendered(students, "qwen2.5", asked)
    sample = made.samples[0]
    assert "caf\u00e9" in tokenizer.decode(sample.input_ids)
    check(students, "qwen2.5", made, asked)
    # What a decoder does besides is declared by nobody.
    from tokenizers import decoders

    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("1 + 1", "2")]
    )
    with pytest.raises(ValueError, match=r"its reasoning becomes '.*2' where .* '.*1 \+ 1'"):
        check(students, "qwen2.5", made, asked, tokenizer)


def test_what_a_tokenizer_cant_write_can_be_left_out(
    students: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = examples(6)
    for at in (1, 4):
        asked[at] = dataclasses.replace(asked[at], reasoning="one ½")
    tokenizer = loaded(students, "teuken")
    write = tokenizer.pieces.encode_as_pieces
    monkeypatch.setattr(
        tokenizer, "_tokenize", lambda text: write(unicodedata.normalize("NFKC", text))
    )
    section = settings("teuken")
    contract = read_contract(Path(section.template), section)
    made = render(asked, tokenizer, contract, section)
    with pytest.raises(ValueError, match=r"^2 traces, first t1: its reasoning becomes '1⁄2'"):
        check(students, "teuken", made, asked, tokenizer)
    config = config_of(students, "teuken")
    kept = check_samples(
        made, asked, tokenizer, config, system=None, max_length=512, unlearnable="drop"
    )
    assert [sample.trace_id for sample in kept.samples] == ["t0", "t2", "t3", "t5"]
    assert kept.dropped == {"unlearnable": 2}
    assert len(kept.refused.lines()) == 1


def test_a_slow_tokenizers_unicode_form_is_the_contracts_to_say(
    students: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = examples(1, reasoning="one ½")
    tokenizer = loaded(students, "teuken")
    write = tokenizer.pieces.encode_as_pieces
    monkeypatch.setattr(
        tokenizer, "_tokenize", lambda text: write(unicodedata.normalize("NFKC", text))
    )
    section = settings("teuken")
    contract = read_contract(Path(section.template), section)
    made = render(asked, tokenizer, contract, section)
    with pytest.raises(ValueError, match=r"its reasoning becomes '1⁄2' where .* '½'"):
        check(students, "teuken", made, asked, tokenizer)
    declared = contract.model_copy(update={"normalisation": "NFKC"})
    check(students, "teuken", render(asked, tokenizer, declared, section), asked, tokenizer)


def test_text_without_tokens_is_refused(students: dict[str, Path]) -> None:
    asked = examples()
    tokenizer, made = rendered(students, "qwen2.5", asked)
    tokenizer.unk_token = "<|im_start|>"
    made = changed(made, [*made.samples[0].input_ids.tolist()[:-1], tokenizer.unk_token_id,
                          made.endings[0]])  # fmt: skip
    with pytest.raises(ValueError, match=r"3 traces, first t0: it has text that the student's tok"):
        check(students, "qwen2.5", made, asked, tokenizer)


def test_a_tokenizer_of_another_model_is_refused(students: dict[str, Path]) -> None:
    asked = examples()
    _, made = rendered(students, "qwen2.5", asked)
    with pytest.raises(ValueError, match="but the model only 100 embeddings: the tokenizer bel"):
        check(students, "qwen2.5", made, asked, vocab_size=100)
    with pytest.raises(ValueError, match="the model ends a text with token 64, which to its"):
        check(students, "qwen2.5", made, asked, eos_token_id=[64])


def test_a_sample_beyond_the_context_is_refused(students: dict[str, Path]) -> None:
    asked = examples()
    _, made = rendered(students, "qwen2.5", asked)
    with pytest.raises(ValueError, match=r"trace t[0-9] has .* context is 16: set finetune"):
        check(students, "qwen2.5", made, asked, max_position_embeddings=16)


@pytest.mark.parametrize(
    ("rope", "context"),
    [
        ({"rope_type": "default"}, 4096),
        ({"rope_type": "linear", "factor": 4.0}, 16384),
        # max_position_embeddings has these in it already, as vLLM takes it too
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}, 4096),
        ({"rope_type": "llama3", "factor": 8.0}, 4096),
    ],
)
def test_the_context_counts_the_stretched_positions(
    students: dict[str, Path], rope: dict[str, Any], context: int
) -> None:
    rope = {"rope_theta": 1e4, **rope}
    config = config_of(students, "qwen2.5", max_position_embeddings=4096, rope_parameters=rope)
    assert context_length(config) == context
