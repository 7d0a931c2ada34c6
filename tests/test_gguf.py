"""Students and teachers in GGUF: written by llama.cpp's own library, unpacked, compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, run_tracestill
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants
from safetensors.torch import load_file
from training import ROOT, STUDENT, examples, settings
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.train import train
from generate.teacher import loaded_by_vllm
from tracestill.recipe.models import LocalModel
from tracestill.records.content import model_fingerprint
from tracestill.records.gguf import model_folder

_NAMES = {
    "embed_tokens": "token_embd", "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "model.norm": "output_norm", "model.layers": "blk", "model.": "",
}  # fmt: skip


def write_gguf(path: Path, kind: GGMLQuantizationType, **metadata: Any) -> Path:
    """The miniature student as a GGUF file, its matrices of that kind."""
    config = json.loads((STUDENT / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    writer = GGUFWriter(path, metadata.pop("architecture", "qwen2"))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    words = {token: word for word, token in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    kinds = [
        TokenType.UNUSED if token not in words
        else TokenType.NORMAL if token not in added
        else TokenType.CONTROL if added[token].special
        else TokenType.USER_DEFINED
        for token in range(config["vocab_size"])
    ]  # fmt: skip
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(metadata.pop("pre", "gpt-2"))
    writer.add_token_list([words.get(token, f"[PAD{token}]") for token in range(len(kinds))])
    writer.add_token_types(kinds)
    writer.add_token_merges(["Ā Ā"])  # of no token: llama.cpp asks for merges of every file
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)
    for key, value in metadata.items():
        if isinstance(value, int):
            writer.add_uint16(key.replace("_", "."), value)
        else:
            writer.add_string(key.replace("_", "."), value)
    for name, weight in load_file(STUDENT / "model.safetensors").items():
        for ours, theirs in _NAMES.items():
            name = name.replace(ours, theirs)
        values = weight.float().numpy()
        if values.ndim == 1 or kind == GGMLQuantizationType.F32:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tracestill" / "gguf"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "mini.gguf", GGMLQuantizationType.F32)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "mini.gguf", GGMLQuantizationType.Q8_0)


def logits(path: str | Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ids = torch.arange(300)[None]
    with torch.no_grad():
        return model(ids).logits[0]


def test_an_unpacked_file_is_the_model_that_was_packed(plain: Path) -> None:
    folder = Path(model_folder(str(plain)))
    assert torch.allclose(logits(folder), logits(STUDENT), atol=1e-4)
    ours, theirs = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(STUDENT)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.chat_template == theirs.chat_template
    assert (ours.eos_token, ours.pad_token) == (theirs.eos_token, theirs.pad_token)
    text = "<|user|>What is 2 + 3?\n\nÜ 日 <think> 4}.</think><|end|>"
    assert ours(text).input_ids == theirs(text).input_ids
    assert ours.decode(ours(text).input_ids) == text
    assert ours.decode(ours(text).input_ids, skip_special_tokens=True) == theirs.decode(
        theirs(text).input_ids, skip_special_tokens=True
    )


def test_quantised_weights_are_unpacked_near_what_they_were(quantised: Path) -> None:
    folder = Path(model_folder(str(quantised)))
    apart = (logits(folder) - logits(STUDENT)).abs().mean() / logits(STUDENT).std()
    assert 0 < apart < 0.05
    dtypes = {weight.dtype for weight in load_file(folder / "model.safetensors").values()}
    assert dtypes == {torch.bfloat16}


def test_a_file_is_unpacked_once_for_its_content(plain: Path, cache: Path, tmp_path: Path) -> None:
    folder = Path(model_folder(str(plain)))
    made = (folder / "model.safetensors").stat().st_mtime_ns
    moved = Path(shutil.copy(plain, tmp_path / plain.name))
    assert Path(model_folder(str(moved))) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert model_fingerprint(str(moved), None) == model_fingerprint(str(plain), None)
    assert [path.name for path in folder.parent.iterdir()] == [plain.stem], "nothing half made"


def test_hub_ids_and_folders_stay_as_they_are() -> None:
    assert model_folder("org/model.gguf") == "org/model.gguf"
    assert model_folder(str(STUDENT)) == str(STUDENT)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_a_file_that_is_cut_off_is_told_in_a_line(
    plain: Path, tmp_path: Path, share: float
) -> None:
    content = plain.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"^\S+cut\.gguf is cut off.*fetch it again$") as told:
        model_folder(str(cut))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"architecture": "rwkv7"}, "has the architecture rwkv7.*original folder or hub id"),
        ({"pre": "martian"}, "splits text by the rule martian.*original folder or hub id"),
        ({"qwen2_rope_scaling_type": "longrope"}, "scales its RoPE by longrope"),
        ({"split_count": 3}, "is one of 3 parts: join them with `llama-gguf-split --merge`"),
    ],
)
def test_what_can_not_be_unpacked_is_told_in_a_line(
    tmp_path: Path, metadata: dict[str, Any], said: str
) -> None:
    path = write_gguf(tmp_path / "other.gguf", GGMLQuantizationType.F32, **metadata)
    with pytest.raises(ValueError, match=said) as told:
        model_folder(str(path))
    assert "\n" not in str(told.value)


def test_a_recipe_names_a_missing_or_wrong_file_before_a_run(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(TINY.format(root=ROOT))
    (tmp_path / "text.gguf").write_text("<html>not found</html>")
    for name, said in (("gone", "does not exist"), ("text", "is no GGUF file")):
        done = run_tracestill(
            "validate", recipe, "--set", f"finetune.student={tmp_path}/{name}.gguf"
        )
        assert done.returncode == 1
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_gguf_student_is_trained(quantised: Path, tmp_path: Path) -> None:
    chosen = settings(student=str(quantised))
    made = train(
        examples(8), chosen, student=chosen.student, template=Path(chosen.template),
        folder=tmp_path / "out", seed=0, progress=lambda event: None,
    )  # fmt: skip
    assert made.figures.export.parameters == 895_616
    assert (tmp_path / "out" / "merged" / "model.safetensors").is_file()
    config = json.loads((tmp_path / "out" / "merged" / "config.json").read_text())
    assert "quantization_config" not in config
    assert np.isfinite(made.figures.loss or np.nan)


def test_vllm_is_given_the_unpacked_teacher(quantised: Path) -> None:
    path = loaded_by_vllm(LocalModel(model=str(quantised))).path
    assert path == model_folder(str(quantised))
    assert path != str(quantised)
