"""Students in llama.cpp's format: converted and read by llama.cpp, and unpacked again.

They need llama.cpp's tools, which `make gguf` fetches and builds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import real_models
import torch
from conftest import run_tracestill
from training import ROOT, STUDENT, TEMPLATE, settings
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from finetune.gguf import export_gguf
from finetune.llama_cpp import call, converter
from finetune.modelfile import ollama_template
from finetune.tokenizer import load_tokenizer
from tracestill.records.gguf import unpack

_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}  # fmt: skip
_YARN = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 1024,
}  # fmt: skip
_PLAIN = {"rope_type": "default", "rope_theta": 250_000.0}
TEXTS = [
    "In 2024, 1234567.5 + 3² = ?\n\n  def f(x):\n\treturn x  # done",
    "Ünïcode e\u0301 日本語 🙂 I've we'LL\r\n\r\n…",
    "<think>\nLet x = 12.\n</think>\n\n\\boxed{12}",
]


@pytest.fixture(scope="module")
def tools() -> str:
    try:
        return str(converter())
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.real
@pytest.mark.parametrize(
    ("kind", "tokenizer", "rope"),
    [
        ("llama", "llama-3.1", _LLAMA3),
        ("llama", real_models.SMOLLM2, _PLAIN),
        ("qwen3", "qwen3", _YARN),
        ("qwen2", "qwen3", _PLAIN),
    ],
)
def test_what_llama_cpps_converter_wrote_is_unpacked_whole(
    tools: str, tmp_path: Path, kind: str, tokenizer: str, rope: dict[str, Any]
) -> None:
    if why := real_models.missing(tokenizer):
        pytest.skip(why)
    theirs = AutoTokenizer.from_pretrained(real_models.folder(tokenizer))
    torch.manual_seed(0)
    values = {
        "vocab_size": len(theirs) + 7, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 4096, "initializer_range": 0.2, "tie_word_embeddings": False,
        "bos_token_id": theirs.bos_token_id, "eos_token_id": theirs.eos_token_id,
        "rope_parameters": rope,
    }  # fmt: skip
    if kind != "qwen2":
        values["head_dim"] = 32
    config = AutoConfig.for_model(kind, **values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    made = tmp_path / "made"
    model.save_pretrained(made)
    theirs.save_pretrained(made)
    file, folder = tmp_path / "it.gguf", tmp_path / "unpacked"
    call("convert", converter=tools, model=str(made), out=str(file), kind="f32", name="it")
    folder.mkdir()
    unpack(file, folder)
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(0, 1000, (1, 1500))
    with torch.no_grad():
        one, other = (each(ids, logits_to_keep=16).logits for each in (again, model))
    assert torch.allclose(one, other, atol=1e-3)
    ours = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        for special in (False, True):
            expected = theirs(text, add_special_tokens=special).input_ids
            assert ours(text, add_special_tokens=special).input_ids == expected
        ids = theirs(text, add_special_tokens=False).input_ids
        assert ours.decode(ids) == theirs.decode(ids)
    chat = [{"role": "user", "content": TEXTS[0]}]
    assert ours.apply_chat_template(chat, tokenize=False) == theirs.apply_chat_template(
        chat, tokenize=False
    )


TEACHER = ROOT / "miniature" / "teacher"  # it answers, as a trained student does
_TASK = "State the final answer to the following arithmetic problem:"
PROMPTS = [f"{_TASK} {n} + 1 + 2 =" for n in (3, 5, 8)]


def exported(merged: Path, folder: Path, kinds: list[str], prompts: list[str]) -> Any:
    return export_gguf(
        merged, folder, kinds, prompts, settings(), name="it", sampling={"temperature": 0.6}
    )


def test_a_student_is_exported_and_read_by_llama_cpp(tools: str, tmp_path: Path) -> None:
    kinds = ["f16", "bf16", "q8_0", "q4_k_m"]
    figures = exported(TEACHER, tmp_path / "gguf", kinds, PROMPTS)
    assert [one.kind for one in figures.files] == kinds
    f16, bf16, q8, q4 = figures.files
    for whole in (f16, bf16):
        assert (whole.same, whole.ended, whole.answers) == (3, 3, 3)
        assert whole.logit_difference < 0.02
    assert f16.bytes > q8.bytes > q4.bytes
    assert bf16.logit_difference < q8.logit_difference < q4.logit_difference < 0.5
    names = {path.name for path in (tmp_path / "gguf").iterdir()}
    assert names == {"Modelfile", "gguf.json", *(f"it-{kind}.gguf" for kind in kinds)}
    text = (tmp_path / "gguf" / "Modelfile").read_text()
    assert text.startswith("FROM ./it-f16.gguf\n")
    assert 'PARAMETER stop "<|end|>"' in text


def test_a_kind_that_llama_cpp_lacks_is_told(tools: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--quant q9: llama.cpp knows no such kind; .*q4_k_m"):
        exported(STUDENT, tmp_path / "gguf", ["q9"], PROMPTS)


def test_weights_that_llama_cpp_reads_otherwise_are_caught(
    tools: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of an architecture that its converter takes for another."""

    def wrong(task: str, **values: Any) -> Any:
        if task == "convert":
            config = json.loads((STUDENT / "config.json").read_text())
            other = tmp_path / "other"
            other.mkdir()
            for path in STUDENT.iterdir():
                (other / path.name).write_bytes(path.read_bytes())
            config["rope_parameters"]["rope_theta"] = 10.0
            (other / "config.json").write_text(json.dumps(config))
            values["model"] = str(other)
        return call(task, **values)

    monkeypatch.setattr("finetune.gguf.call", wrong)
    with pytest.raises(RuntimeError, match="computes otherwise than transformers"):
        exported(STUDENT, tmp_path / "gguf", ["f16"], PROMPTS)
    assert not (tmp_path / "gguf").exists()


@pytest.mark.real
@pytest.mark.slow
def test_smollm2_answers_alike_in_llama_cpp(tools: str, tmp_path: Path) -> None:
    if why := real_models.missing(real_models.SMOLLM2):
        pytest.skip(why)
    asked = [f"What is the capital of {name}?" for name in ("France", "Japan", "Peru", "Kenya")]
    merged = real_models.folder(real_models.SMOLLM2)
    figures = exported(merged, tmp_path / "gguf", ["f16", "q8_0", "q4_k_m"], asked)
    f16, q8, q4 = figures.files
    assert f16.same == f16.answers == f16.ended == 4
    assert f16.logit_difference < 0.02 < q4.logit_difference
    assert q8.logit_difference < q4.logit_difference


def test_without_llama_cpp_a_line_says_what_to_do(finished: Path, tmp_path: Path) -> None:
    done = run_tracestill("export", finished, XDG_CACHE_HOME=str(tmp_path), LLAMA_CPP="")
    assert done.returncode == 1
    assert "make gguf" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_runs_student_is_exported_and_its_card_says_how(tools: str, copied: Path) -> None:
    done = run_tracestill("export", copied, "--to", "gguf", "--quant", "q8_0")
    assert done.returncode == 0, done.stderr
    assert "tiny-q8_0.gguf" in done.stdout
    for part in ("merged", "gguf"):
        card = (copied / "finetune" / part / "README.md").read_text()
        assert "| `tiny-q8_0.gguf` | " in card
        assert "llama-server -m tiny-q8_0.gguf --jinja" in card
    assert "gguf" not in (copied / "finetune" / "adapter" / "README.md").read_text()


def test_a_template_that_ollama_can_not_write_is_left_out() -> None:
    """The miniature's puts the system prompt into the first question."""
    assert ollama_template(load_tokenizer(str(STUDENT), None, TEMPLATE)) is None


def written(template: str, system: str | None, *turns: tuple[str, str]) -> str:
    """What Ollama's language makes of a template, for the words of it that are used here."""
    before, rest = template.split("{{ range .Messages }}")
    body, after = rest.rsplit("{{ end }}{{ end }}", 1)
    if before.startswith("{{ if .System }}"):
        with_system, _, without = before.removeprefix("{{ if .System }}").partition("{{ else }}")
        with_system, without = (one.removesuffix("{{ end }}") for one in (with_system, without))
        before = with_system.replace("{{ .System }}", system) if system else without
    user, assistant = body.split('{{ else if eq .Role "assistant" }}')
    parts = {"user": user.removeprefix('{{ if eq .Role "user" }}'), "assistant": assistant}
    text = before
    for role, content in turns:
        text += parts[role].replace("{{ .Content }}", content)
    return text + after


@pytest.mark.parametrize("name", ["chatml-think", "qwen2.5", "qwen3", "llama-3"])
def test_ollamas_template_writes_what_the_trained_one_does(
    students: dict[str, Path], name: str
) -> None:
    tokenizer = load_tokenizer(str(students[name]), None, TEMPLATE.with_name(f"{name}.jinja"))
    template = ollama_template(tokenizer)
    assert template
    turns = [("user", "What?"), ("assistant", "That."), ("user", "Why?")]
    for system in (None, "Be brief."):
        chat = ([("system", system)] if system else []) + turns
        expected = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in chat],
            tokenize=False, add_generation_prompt=True,
        )  # fmt: skip
        bos = tokenizer.bos_token
        if bos and tokenizer("x").input_ids[0] == tokenizer.bos_token_id:
            expected = expected.removeprefix(bos)
        assert written(template, system, *turns) == expected
