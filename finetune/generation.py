"""Greedy generation with a student, also in the middle of its training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from finetune.attention import PACKED
from finetune.sample import Sample

_SMALL = 50_000_000  # parameters


def generate_greedily(
    model: Any,
    samples: Sequence[Sample],
    ends: Sequence[int],
    pad: int,
    *,
    max_tokens: int,
    at_once: int | None = None,
    seconds: float | None = None,
) -> list[list[int]]:
    """The greedy completion of each sample's prompt, as token ids with the id that ended it.

    Afterwards the model's mode, attention, generation_config and number of threads are as before,
    and no random number was drawn. The model's own generation_config, such as a repetition penalty,
    is ignored.

    Args:
        model: the student, with its adapter if it has one.
        samples: whose prompts are completed.
        ends: the token ids that end a completion.
        pad: the id that pads prompts, on the left.
        max_tokens: of each completion.
        at_once: the most tokens of prompts and completions in memory, if that is more than one row
            of them; None puts all samples into a batch.
        seconds: after which a batch is stopped.

    """
    import torch

    width = max(sample.prompt for sample in samples)
    rows = len(samples) if at_once is None else max(1, at_once // (width + max_tokens))
    device = model.get_input_embeddings().weight.device
    made: list[list[int]] = []
    with _generating(model, ends, pad, max_tokens, seconds), torch.no_grad():
        for begin in range(0, len(samples), rows):
            part = samples[begin : begin + rows]
            found = model.generate(**_left_padded(part, width, pad, device))
            made += [_until_end(row, ends) for row in found[:, width:].tolist()]
    return made


@contextlib.contextmanager
def _generating(
    model: Any, ends: Sequence[int], pad: int, max_tokens: int, seconds: float | None
) -> Iterator[None]:
    """Switch a model from training to generation, and back."""
    import torch
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
    from transformers import GenerationConfig

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    training, threads = model.training, torch.get_num_threads()
    own, attention = base.generation_config, base.config._attn_implementation
    model.eval()  # also what keeps gradient checkpointing from dropping the cache
    spare_threads(model)
    base.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=max_tokens, max_time=seconds, eos_token_id=list(ends),
        pad_token_id=pad,
    )  # fmt: skip
    if attention == PACKED:  # it knows neither a cache nor padding
        base.set_attn_implementation("sdpa")
    # With FSDP, only a registered method gathers the weights outside of the layers.
    register_fsdp_forward_method(model, "generate")
    try:
        yield
    finally:
        if isinstance(model, FSDPModule):
            del model.generate
        if attention == PACKED:
            base.set_attn_implementation(PACKED)
        base.generation_config = own
        torch.set_num_threads(threads)
        model.train(training)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # a cache that grew token by token left it fragmented


def spare_threads(model: Any) -> None:
    """Let a small model on a CPU use one thread: splitting a token's work among cores takes longer
    than the work, on a busy machine a hundred times as long.
    """
    import torch

    if model.device.type == "cpu" and model.num_parameters() < _SMALL:
        torch.set_num_threads(1)


def _left_padded(samples: Sequence[Sample], width: int, pad: int, device: Any) -> dict[str, Any]:
    """The prompts as ids of shape (samples, width), padded on the left, and their mask."""
    import torch

    ids = torch.full((len(samples), width), pad)
    mask = torch.zeros_like(ids)
    for row, sample in enumerate(samples):
        ids[row, width - sample.prompt :] = torch.from_numpy(sample.input_ids[: sample.prompt])
        mask[row, width - sample.prompt :] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The ids up to the first that ends a completion: padding follows it."""
    for at, token in enumerate(ids):
        if token in ends:
            return ids[: at + 1]
    return ids
