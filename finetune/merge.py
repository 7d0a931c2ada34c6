"""The trained student as plain 16-bit weights: adapters merged, 4-bit weights dequantised."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from finetune.multimodal import saved_name
from finetune.older import keep_readable

_SHARD_BYTES = 5 * 10**9
# Of the base model's generation_config the sampling parameters are kept. Its limits and penalties
# are not: they would cut reasoning short, or forbid it to repeat what it works with.
_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p")


def merged_weights(model: Any, dtype: Any) -> Iterator[tuple[str, Any]]:
    """Each weight of the model by its name without an adapter, in `dtype`, on the CPU.

    A layer's adapter is added in float32 and the sum rounded once. A 4-bit weight is dequantised:
    that is what training multiplied by. Layers are computed one at a time, and `model` is not
    changed: peft's merge in place would quantise the sum again, and lose most of the adapter.

    Raises:
        RuntimeError: a weight is not finite in `dtype`.

    """
    import torch
    from peft.utils.integrations import dequantize_bnb_weight, get_bnb_param_type

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.no_grad():
        for path, parameter in base.named_parameters():
            parts = path.split(".")
            if any(part.startswith("lora_") for part in parts):
                continue
            quantised = get_bnb_param_type(parameter)
            weight = dequantize_bnb_weight(parameter) if quantised else parameter.data
            if parts[-2:] == ["base_layer", "weight"]:
                weight = _with_adapter(base.get_submodule(".".join(parts[:-2])), weight)
            name = ".".join(part for part in parts if part != "base_layer")
            rounded = weight.to(dtype).cpu().contiguous()
            if not torch.isfinite(rounded).all():
                raise RuntimeError(
                    f"{name} has values that {dtype} can't hold: the training diverged; lower "
                    "finetune.learning_rate, and give `--from finetune`"
                )
            yield saved_name(base, name), rounded


def _with_adapter(layer: Any, weight: Any) -> Any:
    (adapter,) = layer.active_adapters
    weight = weight.float()
    if adapter in layer.lora_variant:  # DoRA
        return layer.lora_variant[adapter].merge_safe(layer, adapter, weight)
    return weight + layer.get_delta_weight(adapter).float()


def write_weights(weights: Iterator[tuple[str, Any]], folder: Path) -> int:
    """Write weights as safetensors files of at most 5 GB, each before the next is computed.

    Returns:
        The number of parameters.

    """
    from safetensors.torch import save_file

    shards: list[list[str]] = []
    held: dict[str, Any] = {}
    parameters = total = 0

    def flush() -> None:
        if held:
            path = folder / f"model-{len(shards) + 1:05}.safetensors"
            save_file(held, path, metadata={"format": "pt"})
            shards.append(list(held))
            held.clear()

    for name, weight in weights:
        size = weight.numel() * weight.element_size()
        if sum(w.numel() * w.element_size() for w in held.values()) + size > _SHARD_BYTES:
            flush()
        held[name] = weight
        parameters += weight.numel()
        total += size
    flush()
    if len(shards) == 1:
        (folder / "model-00001.safetensors").rename(folder / "model.safetensors")
        return parameters
    places = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        (folder / f"model-{number:05}.safetensors").rename(folder / file)
        places.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return parameters


def write_config(model: Any, folder: Path, dtype: Any, ends: Sequence[int], pad: int) -> None:
    """Write the merged model's config, and its code if it comes with its own."""
    from transformers.dynamic_module_utils import custom_object_save

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = copy.deepcopy(base.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = dtype
    config.architectures = [type(base).__name__]
    config.use_cache = True
    config.eos_token_id = _one_or_more(ends)
    config.pad_token_id = pad
    if base.is_remote_code():
        custom_object_save(base, folder, config=config)
    config.save_pretrained(folder)
    keep_readable(folder)


def write_turns(model: Any, tokenizer: Any, folder: Path, ends: Sequence[int], pad: int) -> None:
    """Write the tokenizer with the trained template, and the generation_config. `ends` are the
    token ids that end a turn, the trained one first.

    vLLM and transformers read what ends a turn from generation_config, llama.cpp from the
    tokenizer: both say the same.
    """
    from transformers import GenerationConfig

    had = model.generation_config
    sampling = {name: getattr(had, name) for name in _SAMPLING if getattr(had, name) is not None}
    if sampling.keys() - {"do_sample"}:
        sampling["do_sample"] = True
    GenerationConfig(
        eos_token_id=_one_or_more(ends),
        pad_token_id=pad,
        bos_token_id=had.bos_token_id,
        **sampling,
    ).save_pretrained(folder)
    # A template that uses `eos_token` was trained with the tokenizer's own.
    if "eos_token" not in tokenizer.chat_template:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    tokenizer.save_pretrained(folder)
    keep_readable(folder)


def _one_or_more(ends: Sequence[int]) -> int | list[int]:
    return ends[0] if len(ends) == 1 else list(ends)


def release(model: Any) -> None:
    """Free the memory of a model's weights, whoever still refers to the model."""
    import torch

    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
        parameter.grad = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
