"""Exports are read alike by the transformers that wrote them and by the oldest that a card names.

The older one lies in an environment of its own, `TRACESTILL_OLDER` or made here once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import real_models
import torch
from training import STUDENT, TEMPLATE, run
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from finetune.merge import merged_weights, write_config, write_turns, write_weights
from finetune.older import OLDEST, keep_readable
from finetune.tokenizer import load_tokenizer
from tracestill.records.content import cache_folder

STOP = 259
QUESTIONS = [f"What is {n} + {n * 7 % 19}?\n\n日本 Ü {'x' * (n % 3)}" for n in range(20)]

# Prompts as token ids and the greedy tokens after each, as whichever transformers sees them.
READ = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
folders, questions = json.load(sys.stdin)
transformers.logging.set_verbosity_error()
made = {"version": transformers.__version__}
for folder in folders:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    made[folder] = []
    for question in questions:
        chat = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        # As the model card does it.
        inputs = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        assert inputs["input_ids"][0].tolist() == ids
        out = model.generate(**inputs, max_new_tokens=24, do_sample=False)
        answer = out[0, len(ids):].tolist()
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1, :32].tolist()
        written = tokenizer.decode(answer, skip_special_tokens=True)
        made[folder].append([logits, ids, answer, written])
print("MADE", json.dumps(made))
"""


def read(python: str | Path, folders: list[Path]) -> dict[str, Any]:
    done = subprocess.run(
        [str(python), "-c", READ], input=json.dumps([list(map(str, folders)), QUESTIONS]),
        capture_output=True, text=True, timeout=900, cwd="/",
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.rpartition("MADE ")[2])
    return found


@pytest.fixture(scope="module")
def older() -> Path:
    """A Python with the older transformers and this environment's torch."""
    if named := os.environ.get("TRACESTILL_OLDER"):
        return Path(named)
    place = cache_folder() / f"transformers-{OLDEST}"
    python = place / "bin" / "python"
    if not python.is_file():
        temporary = place.with_name(f".{place.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", temporary], check=True)
        site = next(temporary.glob("lib/python*/site-packages"))
        (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", site,
             f"transformers=={OLDEST}.*"],
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"transformers {OLDEST} can't be had: {done.stderr.strip()[-300:]}")
        temporary.rename(place)
    return python


def exported(config: Any, folder: Path) -> Path:
    """A model of random weights, saved as the export saves one."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tokenizer = load_tokenizer(str(STUDENT), None, TEMPLATE)
    folder.mkdir()
    write_weights(merged_weights(model, torch.bfloat16), folder)
    write_config(model, folder, torch.bfloat16, [STOP], 256)
    write_turns(model, tokenizer, folder, [STOP], 256)
    return folder


_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
_YARN = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
_WINDOWS = {
    "full_attention": {"rope_type": "linear", "rope_theta": 3e5, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0}},
    "llama-3.1": {"model_type": "llama", "rope_parameters": _LLAMA3},
    "qwen2": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "qwen3": {"rope_parameters": _YARN},
    "gemma3_text": {
        "rope_parameters": _WINDOWS, "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "phi3": {"rope_parameters": {"rope_type": "default", "rope_theta": 2e5,
                                 "partial_rotary_factor": 0.5}},
    "olmo2": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
    "granite": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e7}},
    "smollm3": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}},
    "mistral": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
}  # fmt: skip


def config_of(kind: str) -> Any:
    small: dict[str, Any] = {
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 256, "initializer_range": 0.3, "pad_token_id": 256,
        "eos_token_id": STOP, "bos_token_id": None,
    }  # fmt: skip
    values = {"model_type": kind, **small, **KINDS[kind]}
    return AutoConfig.for_model(**values)


@pytest.mark.parametrize("kind", KINDS)
def test_what_older_names_say_changes_nothing_for_newer(tmp_path: Path, kind: str) -> None:
    config = config_of(kind)
    saved = AutoConfig.from_pretrained(exported(config, tmp_path / kind))
    assert saved.rope_parameters == config.rope_parameters
    assert saved.dtype == torch.bfloat16
    written = json.loads((tmp_path / kind / "config.json").read_text())
    theta = (config.rope_parameters.get("full_attention") or config.rope_parameters)["rope_theta"]
    assert (written["torch_dtype"], written["rope_theta"]) == ("bfloat16", theta)
    ours, theirs = (AutoTokenizer.from_pretrained(path) for path in (tmp_path / kind, STUDENT))
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.all_special_tokens == theirs.all_special_tokens


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"tokenizer_class": "TokenizersBackend"}, ["input_ids", "attention_mask"]),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, ["input_ids", "attention_mask"]),
        (
            {"tokenizer_class": "TokenizersBackend", "model_input_names": ["input_ids"]},
            ["input_ids"],
        ),
        ({"tokenizer_class": "Qwen2Tokenizer"}, None),  # it knows what its models take
    ],
)
def test_older_transformers_is_told_what_the_model_takes(
    tmp_path: Path, said: dict[str, Any], names: list[str] | None
) -> None:
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(said))
    keep_readable(tmp_path)
    assert json.loads(path.read_text()).get("model_input_names") == names


def check_same(old: list[Any], new: list[Any]) -> None:
    """The same prompts, greedy tokens and text; logits too, as random models answer alike."""
    assert [one[1:] for one in old] == [one[1:] for one in new]
    apart = torch.tensor([one[0] for one in old]) - torch.tensor([one[0] for one in new])
    assert apart.abs().max() < 1e-3


@pytest.mark.slow
def test_older_transformers_sees_the_same_prompts_and_gives_the_same_tokens(
    older: Path, tmp_path: Path
) -> None:
    run(tmp_path, epochs=4)
    folders = [tmp_path / "merged", *(exported(config_of(kind), tmp_path / kind) for kind in KINDS)]
    new, old = read(sys.executable, folders), read(older, folders)
    assert old.pop("version").startswith(f"{OLDEST}.")
    assert new.pop("version") > OLDEST
    assert len(old) == len(folders)
    for folder in new:
        check_same(old[folder], new[folder])


@pytest.mark.real
@pytest.mark.slow
def test_older_transformers_gives_smollm2s_tokens(older: Path, tmp_path: Path) -> None:
    """Its RoPE's theta is 100,000, which transformers 4 would take for 10,000."""
    if why := real_models.missing(real_models.SMOLLM2):
        pytest.skip(why)
    source = real_models.folder(real_models.SMOLLM2)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    folder = tmp_path / "smollm2"
    folder.mkdir()
    write_weights(merged_weights(model, torch.bfloat16), folder)
    write_config(model, folder, torch.bfloat16, [2], 2)
    write_turns(model, AutoTokenizer.from_pretrained(source), folder, [2], 2)
    new, old = read(sys.executable, [folder]), read(older, [folder])
    check_same(old[str(folder)], new[str(folder)])
