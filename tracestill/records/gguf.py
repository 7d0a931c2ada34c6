"""Models in GGUF, llama.cpp's format: unpacked into folders that training and vLLM read."""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.records.content import cache_folder, file_fingerprint, is_gguf
from tracestill.records.files import sync_folder, sync_tree

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Unpacked and compared with llama.cpp's own reading of the file (tests/test_gguf.py): for others,
# transformers leaves out of the config what their files say (windows, scales, experts), unnoticed.
_KNOWN = ("llama", "qwen2", "qwen3")
_FORMAT = 1  # of what is written: raised where a file would be unpacked otherwise than before


def gguf_mistake(model: str) -> str | None:
    """What is wrong with a GGUF file at first sight, in words; None if nothing is."""
    path = Path(model)
    if not path.is_file():
        return f"the GGUF file {model} does not exist"
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            return f"{model} is no GGUF file, though its name says so"
    return None


def model_folder(model: str) -> str:
    """Where what a recipe names (a hub id, a folder, a GGUF file) can be loaded from. A GGUF file
    is unpacked into a folder of the user's cache, once for each content.

    Raises:
        ValueError: the file is cut off, or can't be read as a model; one line with the fix.

    """
    if not is_gguf(model) or not model.startswith("/"):
        return model
    if mistake := gguf_mistake(model):
        raise ValueError(mistake)
    file = Path(model)
    folder = cache_folder() / "gguf" / f"{file_fingerprint(file)}-{_FORMAT}" / file.stem
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
        try:
            unpack(file, temporary)
            sync_tree(temporary)
            try:
                temporary.rename(folder)
            except OSError:  # another process was faster
                if not (folder / "config.json").is_file():
                    raise
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return str(folder)


def unpack(file: Path, folder: Path) -> None:
    """Write a GGUF file's model as weights in bfloat16 (float32 if the file has nothing else), with
    its tokenizer, chat template and configs.

    Raises:
        ValueError: the file is cut off, or can't be read as a model; one line with the fix.

    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig
    from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata

    from tracestill.records.gguf_tokenizer import gguf_tokenizer

    try:
        header = GgufHeader.from_file(str(file))
        metadata, _ = read_gguf_metadata(
            str(file), ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")
        )
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"{file} is cut off or damaged in its head: fetch it again") from error
    except ValueError as error:
        raise ValueError(f"{file} can't be read: {error}") from error
    has = file.stat().st_size
    needs = header.data_start + max((t.offset + t.nbytes for t in header.tensors), default=0)
    if has < needs:
        raise ValueError(f"{file} is cut off: it has {has:,} of {needs:,} bytes; fetch it again")
    if (parts := metadata.get("split.count", 1)) > 1:
        raise ValueError(
            f"{file} is one of {parts} parts: join them with `llama-gguf-split --merge`"
        )
    if header.architecture not in _KNOWN:
        raise ValueError(
            f"{file} has the architecture {header.architecture}; GGUF files are unpacked for "
            f"{', '.join(_KNOWN)}. Name the model's original folder or hub id instead"
        )
    tokenizer = gguf_tokenizer(file, metadata)
    config = _config(file, metadata, header)
    model, report = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        config=config,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32 if header.dtype == torch.float32 else torch.bfloat16,
        output_loading_info=True,
    )
    if missing := sorted(set(report["missing_keys"]) - set(model.all_tied_weights_keys)):
        raise ValueError(f"{file} lacks weights of its model: {', '.join(missing[:5])}")
    model.config.__dict__.pop("quantization_config", None)  # it is one no more
    ends = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    ends = list(dict.fromkeys(end for end in ends if end is not None))
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends or None,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.config.__dict__.pop("_model_name_or_path", None)
    model.config.bos_token_id = tokenizer.bos_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _config(file: Path, metadata: dict[str, Any], header: Any) -> PreTrainedConfig:
    """The model's config, with what transformers leaves out of it: head size, RoPE's scaling.

    Raises:
        ValueError: the file scales its RoPE in a way that is not known here.

    """
    from transformers import AutoConfig

    def said(key: str) -> Any:
        return metadata.get(f"{header.architecture}.{key}")

    try:
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    except ImportError as error:
        raise ValueError(
            "GGUF files need the package gguf, which the extras `cpu` and `gpu` install"
        ) from error
    if size := said("attention.key_length"):
        config.head_dim = size
    rope: dict[str, Any] = {}
    kind = said("rope.scaling.type")
    if any(tensor.name == "rope_freqs.weight" for tensor in header.tensors):
        rope = _llama3_rope(file, header, config)
    elif kind in ("linear", "yarn"):
        rope = {"rope_type": kind, "factor": said("rope.scaling.factor")}
        if kind == "yarn":
            rope["original_max_position_embeddings"] = said("rope.scaling.original_context_length")
    elif kind not in (None, "none"):
        raise ValueError(
            f"{file} scales its RoPE by {kind}, which is not unpacked; name the model's original "
            "folder or hub id instead"
        )
    config.rope_parameters = {**config.rope_parameters, **rope}
    return config


def _llama3_rope(file: Path, header: Any, config: PreTrainedConfig) -> dict[str, Any]:
    """Llama 3.1's scaling, of which a GGUF file has each frequency's divisor, not what it is made
    from. The bounds are the ones that every released model has.
    """
    import torch
    from transformers.integrations.gguf.reader import load_gguf_state_dict
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    divisors = load_gguf_state_dict(header)["rope_freqs.weight"][:]
    theta = config.rope_parameters["rope_theta"]
    rope = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": float(divisors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    plain = theta ** -(torch.arange(len(divisors)) / len(divisors))
    was = config.rope_parameters
    config.rope_parameters = rope
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    config.rope_parameters = was
    if not torch.allclose(scaled * divisors, plain, rtol=1e-3):
        raise ValueError(
            f"{file} scales its RoPE unlike Llama 3.1, which is not unpacked; name the model's "
            "original folder or hub id instead"
        )
    return rope
