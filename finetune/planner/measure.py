"""Measure a student's memory and speed on the GPU that trains it, in three short steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from finetune.loss import add_token_loss
from finetune.packing import AttentionLayout, batch, tensors
from finetune.planner import devices
from finetune.planner.calibration import Calibration
from finetune.planner.devices import Device
from finetune.planner.options import bfloat16, needed
from finetune.planner.shape import Shape
from finetune.planner.speed import micro_batch_seconds
from finetune.planner.terms import Load
from finetune.sample import Sample
from tracestill.recipe.finetune import FinetuneSection

_STEPS = 3
Step = Callable[[], None]


def gpu_bytes(step: Step) -> int:
    """The most bytes that torch's allocator held during a step, beyond those before it."""
    import torch

    torch.cuda.reset_peak_memory_stats()
    resting = torch.cuda.memory_allocated()
    step()
    return int(torch.cuda.max_memory_allocated() - resting)


def measure_step(
    model: Any,
    settings: FinetuneSection,
    shape: Shape,
    device: Device,
    layout: AttentionLayout,
    tokens: int,
    step_bytes: Callable[[Step], int] = gpu_bytes,
) -> Calibration:
    """Run three forward and backward passes over a made-up sample, and compare memory and time with
    the predictions. Weights, gradients and random state are afterwards as before.

    Args:
        model: as it is trained, with its adapter, on its device.
        settings: without `auto`, as from `resolve`.
        shape: of the model.
        device: as the predictions assume it.
        layout: of rows for the model's attention.
        tokens: of the sample.
        step_bytes: runs a step and returns the peak of the memory that it took, in bytes.

    Raises:
        torch.OutOfMemoryError: the sample does not fit.

    """
    import torch

    where = next(model.parameters()).device
    mixed = bfloat16(settings, device)
    ids = np.random.default_rng(0).integers(0, shape.vocabulary, tokens, dtype=np.int32)
    sample = Sample(trace_id="", input_ids=ids, prompt=1, answer=tokens)
    add_token_loss(model.get_base_model() if settings.method == "lora" else model)
    was = model.training
    model.train()
    recompute = settings.gradient_checkpointing is True
    if recompute:
        model.gradient_checkpointing_enable()
        if settings.method == "lora":
            model.enable_input_require_grads()

    def step() -> None:
        made, _ = tensors(batch([sample], [[0]]), layout, 0, where)
        with torch.autocast(where.type, torch.bfloat16, enabled=mixed):
            loss, *_ = model(**made)
        loss.backward()
        if where.type == "cuda":
            torch.cuda.synchronize()

    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        for _ in range(_STEPS - 1):  # the first makes the gradients and compiles kernels
            begin = time.perf_counter()
            step()
            seconds = time.perf_counter() - begin
        taken = step_bytes(step)
    model.zero_grad()
    model.train(was)
    if recompute:
        model.gradient_checkpointing_disable()
        if settings.method == "lora":
            model.disable_input_require_grads()

    load = Load(tokens=tokens, learnt=tokens - 1, longest=tokens, accumulates=True)
    predicted = needed(shape, settings, device, load)
    alone = settings.model_copy(update={"micro_batch": 1})
    expected = micro_batch_seconds(shape, alone, device, load, [tokens])
    return Calibration(
        device=device.name,
        memory=taken / (predicted.activations + predicted.logits),
        speed=expected / seconds if expected else 1.0,
        tokens=tokens,
    )


def training_device() -> Device:
    """The GPU that torch uses, or this machine's CPU."""
    import torch

    if not torch.cuda.is_available():
        return devices.cpu()
    found = torch.cuda.get_device_properties(0)
    return devices.from_driver(found.name, int(found.total_memory))
