"""One optimiser step: gradient accumulation over micro-batches that shrink when memory runs out."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.loss import ACCURACY, accuracy, means_by_part, sums_by_part
from finetune.packing import AttentionLayout, Batch, PackedRow, batch, tensors
from finetune.sample import IGNORED, Sample

IdealSeconds = Callable[[Sequence[int], int], float | None]
"""The seconds that learning from samples of these lengths takes, so many of their tokens learnt, if
all devices compute at their peak; None if that is unknown. MFU is relative to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """The samples of a training, packed into rows, and the rows of each optimiser step (as indices,
    for all processes together).
    """

    samples: Sequence[Sample]
    rows: Sequence[PackedRow]
    steps: Sequence[Sequence[int]]


@dataclass(slots=True, kw_only=True)
class MicroBatch:
    """How many rows are on a device at once; halved when memory runs out."""

    rows: int
    explain: Callable[[BaseException], str]
    """The message for the user if not even one row fits."""
    lowered: list[int] = field(default_factory=list)
    """The optimiser steps at which memory ran out."""


def micro_batches(
    rows: Sequence[PackedRow], most: int, rank: int, world: int
) -> list[list[PackedRow]]:
    """A process's rows of a step, in micro-batches of at most `most` rows, as even as possible.
    Every process has as many, some of them empty: processes wait for each other after each.
    """
    parts = -(-len(rows) // (most * world))
    own = list(rows[rank::world])
    return [own[part::parts] for part in range(parts)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserStep:
    """Computes the gradients of a step. They are divided by the learnt tokens of the whole step, so
    neither the number of processes nor the size of micro-batches changes them.
    """

    data: TrainingData
    layout: AttentionLayout
    pad: int
    micro: MicroBatch
    meter: StepMeter

    def backward(self, trainer: Any, model: Any, step: Sequence[int]) -> Any:
        """Accumulate the gradients of a step's rows; returns this process's part of the mean loss.

        Raises:
            MemoryError: not even one row fits.

        """
        import torch

        rows = [self.data.rows[index] for index in step]
        while True:
            try:
                return self._accumulate(trainer, model, rows)
            except torch.OutOfMemoryError as error:
                # Other processes have gone on, and wait for this one.
                if self.micro.rows == 1 or trainer.accelerator.num_processes > 1:
                    raise MemoryError(self.micro.explain(error)) from error
            # Outside of `except`, which holds on to the attempt's tensors. Its gradients go too.
            model.zero_grad()
            self.micro.rows = max(1, self.micro.rows // 2)
            self.micro.lowered.append(trainer.state.global_step)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _accumulate(self, trainer: Any, model: Any, rows: Sequence[PackedRow]) -> Any:
        import torch

        accelerator = trainer.accelerator
        world = accelerator.num_processes
        total = torch.zeros((), device=trainer.args.device)
        whole = batch(self.data.samples, rows)
        self.meter.begin(whole)
        parts = micro_batches(rows, self.micro.rows, accelerator.process_index, world)
        for index, part in enumerate(parts):
            made, kinds = tensors(
                batch(self.data.samples, part or rows[:1]), self.layout, self.pad, total.device
            )
            if not part:  # another process's row, fully masked
                made["shift_labels"].fill_(IGNORED)
            last = index == len(parts) - 1
            unsynced = contextlib.nullcontext() if last else accelerator.no_sync(model)
            with unsynced, trainer.maybe_activation_offload_context:
                with trainer.compute_loss_context_manager():
                    loss, each, right = model(**made)
                    loss = loss * (world / whole.learnt)  # DDP and FSDP average over processes
                accelerator.backward(loss)
            total += loss.detach()
            self.meter.add(each, right, kinds[made["shift_labels"] != IGNORED])
        return total


class StepMeter:
    """Measures an optimiser step: losses by part, tokens, speed, memory."""

    def __init__(self, ideal_seconds: IdealSeconds | None) -> None:
        """`ideal_seconds` is what MFU is relative to."""
        self._ideal_seconds = ideal_seconds
        self._started = time.monotonic()
        self._parts: list[tuple[Any, Any, Any]] = []
        self._learnt = 0
        self._lengths: list[int] = []

    def begin(self, step: Batch) -> None:
        """Start measuring a step over these rows; what an earlier attempt measured is dropped."""
        self._started = time.monotonic()
        self._parts = []
        self._learnt = step.learnt
        self._lengths = [length for row in step.segments for length in row]

    def add(self, each: Any, right: Any, kinds: Any) -> None:
        """Count a micro-batch: the losses of its learnt tokens, whether they are the most probable
        ones, and their parts.
        """
        self._parts.append((each, right, kinds))

    def end(self, accelerator: Any) -> dict[str, float]:
        """The figures of the step over all processes; losses are nats per token, the accuracy is
        the share of learnt tokens that were the most probable ones before the step.
        """
        import torch

        sums = torch.zeros(5, dtype=torch.float64, device=accelerator.device)
        for each, right, kinds in self._parts:
            sums += sums_by_part(each, right, kinds)
        sums = accelerator.reduce(sums)
        seconds, tokens = time.monotonic() - self._started, sum(self._lengths)
        found: dict[str, float] = {
            "tokens": tokens,
            "learnt_tokens": self._learnt,
            "tokens_per_second": tokens / seconds,
            "learnt_tokens_per_second": self._learnt / seconds,
            "memory_gb": peak_memory() / 1e9,
        }
        ideal = self._ideal_seconds and self._ideal_seconds(self._lengths, self._learnt)
        if ideal is not None:
            found["mfu"] = ideal / seconds
        return {**found, **means_by_part(sums, "loss"), ACCURACY: accuracy(sums)}


def peak_memory() -> int:
    """The peak in bytes of torch's allocator on the GPU; without one, that of the process."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
