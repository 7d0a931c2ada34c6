"""Measure a student on the device that it is trained on, in three short steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.config import FinetuneSection
from finetune.planner.calibration import Calibration
from finetune.planner.devices import Device
from finetune.planner.memory import Load, memory
from finetune.planner.options import bfloat16
from finetune.planner.shape import Shape
from finetune.planner.speed import micro_batch_seconds

if TYPE_CHECKING:
    from finetune.packing import Layout

_STEPS = 3


def probe(
    model: Any,
    settings: FinetuneSection,
    shape: Shape,
    device: Device,
    layout: Layout,
    tokens: int,
) -> Calibration:
    """Go forward and back three times over a sample of `tokens` made-up tokens, and compare memory
    and time with what is predicted. Weights, gradients and random numbers stay as they were.

    On a GPU the memory is that of torch's allocator. On a CPU the storages of tensors are counted,
    in a pass that is not timed: what a process holds says little of them.

    Args:
        model: as it is trained: with its adapter, on its device.
        settings: as `resolve` gives them.
        shape: of the model.
        device: its memory and speed, as predictions assume them.
        layout: of rows for its attention.
        tokens: of the sample.

    Raises:
        torch.OutOfMemoryError: so many tokens do not fit.

    """
    import torch

    from finetune.loss import add_token_loss
    from finetune.packing import batch, tensors
    from finetune.render import Sample

    where = next(model.parameters()).device
    cuda = where.type == "cuda"
    mixed = bfloat16(settings, device)
    ids = np.random.default_rng(0).integers(0, shape.vocabulary, tokens, dtype=np.int32)
    sample = Sample(trace_id="", input_ids=ids, prompt=1, answer=tokens)
    add_token_loss(model.get_base_model() if settings.method == "lora" else model)
    was = model.training
    model.train()
    again = settings.gradient_checkpointing is True
    if again:
        model.gradient_checkpointing_enable()
        if settings.method == "lora":
            model.enable_input_require_grads()

    def step() -> None:
        made, _ = tensors(batch([sample], [[0]]), layout, 0, where)
        with torch.autocast(where.type, torch.bfloat16, enabled=mixed):
            loss, _ = model(**made)
        loss.backward()
        if cuda:
            torch.cuda.synchronize()

    taken, seconds = 0, 0.0
    with torch.random.fork_rng(devices=[where] if cuda else []):
        step()  # makes the gradients, which then stay, and whatever is made once
        for _ in range(_STEPS - 1):
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                resting = torch.cuda.memory_allocated()
            begin = time.perf_counter()
            step()
            seconds = time.perf_counter() - begin
            if cuda:
                taken = torch.cuda.max_memory_allocated() - resting
        if not cuda:
            taken = _counted(step, model)
    model.zero_grad()
    model.train(was)
    if again:
        model.gradient_checkpointing_disable()
        if settings.method == "lora":
            model.disable_input_require_grads()

    load = Load(tokens=tokens, learnt=tokens - 1, longest=tokens, accumulates=True)
    predicted = memory(shape, settings, load, bfloat16=mixed, cuda=cuda)
    alone = settings.model_copy(update={"micro_batch": 1})
    expected = micro_batch_seconds(shape, alone, device, load, [tokens])
    return Calibration(
        device=device.name,
        memory=taken / (predicted.activations + predicted.logits),
        speed=expected / seconds if expected else 1.0,
        tokens=tokens,
    )


def _counted(step: Callable[[], None], model: Any) -> int:
    from finetune.planner.counting import counting

    there = [*model.parameters(), *model.buffers()]
    there += [tensor.grad for tensor in model.parameters() if tensor.grad is not None]
    with counting()(there=there) as storages:
        step()
    return int(storages.peak)


def training_device() -> Device:
    """The GPU that torch uses, or this machine's CPU."""
    import torch

    from finetune.planner import devices

    if not torch.cuda.is_available():
        return devices.cpu()
    found = torch.cuda.get_device_properties(0)
    return devices.from_driver(found.name, int(found.total_memory))
