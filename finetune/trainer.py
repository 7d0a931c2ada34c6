"""trl's trainer over steps that are rendered, packed and ordered before it begins."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune import sharding
from finetune.loss import add_token_loss, means_by_part, sums_by_part
from finetune.model import keeping_float32
from finetune.packing import Batch, Layout, Row, batch, tensors
from finetune.render import IGNORED, pad_id

if TYPE_CHECKING:
    from finetune.render import Sample

Log = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Micro:
    """How many rows are on a device at once. Less is tried when memory runs out; what is learnt
    does not change.
    """

    rows: int
    explain: Callable[[BaseException], str]
    """What to tell the user when not even one row fits."""
    lowered: list[int] = field(default_factory=list)
    """The optimiser steps at which memory ran out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be learnt, in which order."""

    samples: Sequence[Sample]
    rows: Sequence[Row]
    steps: Sequence[Sequence[int]]
    """The rows of each optimiser step, all processes together."""
    operations: Callable[[Sequence[int], int], float | None] = lambda _, __: None
    """How long learning samples of these lengths, with so many learnt tokens, would take at full
    use of all devices, in seconds; None if it is not known. What MFU goes by."""


def micro_batches(rows: Sequence[Row], most: int, rank: int, world: int) -> list[list[Row]]:
    """A process's rows of a step, in parts of at most `most` rows, as even as can be. Every process
    has the same number of parts, some of them without rows: they wait for each other at each.
    """
    parts = -(-len(rows) // (most * world))
    mine = list(rows[rank::world])
    return [mine[part::parts] for part in range(parts)]


def make_trainer(
    model: Any,
    arguments: Any,
    tokenizer: Any,
    work: Work,
    layout: Layout,
    micro: Micro,
) -> Any:
    """Trl's `SFTTrainer` over `work`. `model` has its adapter; `arguments` is an `SFTConfig`.

    A step is one batch of rows. Each process takes its share, in micro-batches, and divides by
    the number of tokens that the whole step teaches: neither the number of processes nor the size
    of a micro-batch changes the gradient.
    """
    import datasets
    import torch
    from trl import SFTTrainer

    pad = pad_id(tokenizer)

    class StudentTrainer(SFTTrainer):  # type: ignore[misc]
        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            self.is_fsdp_enabled = sharding.prepare(self.accelerator, self.args)

        def save_model(self, *args: Any, **kwargs: Any) -> None:
            # A sharded one is saved beside its optimiser's states, which is what is loaded again.
            if not self.is_fsdp_enabled:
                super().save_model(*args, **kwargs)

        def get_train_dataloader(self) -> Any:
            # An item is the list of a step's rows: order, epochs and resuming are in `steps`, and
            # every process sees all of it.
            return torch.utils.data.DataLoader(
                [list(step) for step in work.steps], batch_size=1, collate_fn=_Step
            )

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            model.train()
            rows = [work.rows[row] for row in inputs.rows]
            whole = batch(work.samples, rows)
            figures.begin(whole)
            while True:
                try:
                    return self._learn(model, rows, whole.learnt)
                except torch.OutOfMemoryError as error:
                    if micro.rows == 1 or self.accelerator.num_processes > 1:
                        raise MemoryError(micro.explain(error)) from error
                # What the failed attempt had added to the gradients goes with it: the step is
                # made again as a whole. Outside of `except`, which holds on to its tensors.
                model.zero_grad()
                micro.rows = max(1, micro.rows // 2)
                micro.lowered.append(self.state.global_step)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

        def _learn(self, model: Any, rows: Sequence[Row], learnt: int) -> Any:
            rank, world = self.accelerator.process_index, self.accelerator.num_processes
            total = torch.zeros((), device=self.args.device)
            figures.drop_attempt()
            parts = micro_batches(rows, micro.rows, rank, world)
            for index, part in enumerate(parts):
                made, kinds = tensors(
                    batch(work.samples, part or rows[:1]), layout, pad, total.device
                )
                if not part:  # a row that the others have, of which nothing is learnt here
                    made["shift_labels"].fill_(IGNORED)
                last = index == len(parts) - 1
                quiet = contextlib.nullcontext() if last else self.accelerator.no_sync(model)
                with quiet, self.maybe_activation_offload_context:
                    with self.compute_loss_context_manager():
                        loss, each = model(**made)
                        # DDP and FSDP average over processes what is to be summed.
                        loss = loss * (world / learnt)
                    self.accelerator.backward(loss)
                total += loss.detach()
                figures.add(each, kinds[made["shift_labels"] != IGNORED])
            return total

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                logs.update(figures.end(self.accelerator))
            super().log(logs, start_time)

    figures = _Figures(work)
    with keeping_float32(model):
        trainer = StudentTrainer(
            model=model,
            args=arguments,
            # trl wants one; what is trained on comes from `work`.
            train_dataset=datasets.Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]}),
            data_collator=_Step,
            processing_class=tokenizer,
        )
    add_token_loss(model.get_base_model() if hasattr(model, "get_base_model") else model)
    return trainer


class _Step:
    """The rows of an optimiser step, as the data loader hands them on."""

    def __init__(self, items: Sequence[Sequence[int]]) -> None:
        (self.rows,) = items

    def __contains__(self, name: str) -> bool:  # transformers looks for tensors in it
        return False


def peak_memory() -> int:
    """The most bytes that torch has allocated on the GPU, or without one, that the process had."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Figures:
    """What is told of each optimiser step."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._started = time.monotonic()
        self._parts: list[tuple[Any, Any]] = []
        self._learnt = 0
        self._lengths: list[int] = []

    def begin(self, step: Batch) -> None:
        self._started = time.monotonic()
        self._learnt = step.learnt
        self._lengths = [length for row in step.segments for length in row]

    def drop_attempt(self) -> None:
        self._parts = []

    def add(self, each: Any, kinds: Any) -> None:
        self._parts.append((each, kinds))

    def end(self, accelerator: Any) -> dict[str, float]:
        """The figures of the step that ends: losses are means over its tokens, in nats."""
        import torch

        sums = torch.zeros(4, dtype=torch.float64, device=accelerator.device)
        for each, kinds in self._parts:
            sums += sums_by_part(each, kinds)
        sums = accelerator.reduce(sums)
        seconds, tokens = time.monotonic() - self._started, sum(self._lengths)
        found: dict[str, float] = {
            "tokens": tokens,
            "learnt_tokens": self._learnt,
            "tokens_per_second": tokens / seconds,
            "learnt_tokens_per_second": self._learnt / seconds,
            "memory_gb": peak_memory() / 1e9,
        }
        if (least := self._work.operations(self._lengths, self._learnt)) is not None:
            found["mfu"] = least / seconds
        return {**found, **means_by_part(sums, "loss")}
