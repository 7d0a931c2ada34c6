"""Settle a training's `auto` settings by the planner, on the device that it runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.config import FinetuneSection
from finetune.planner import (
    Plan,
    Shape,
    compare,
    explain_oom,
    flops_per_token,
    plan,
    read_shape,
    resolve,
)
from finetune.planner.calibration import Calibration, read_calibration, write_calibration
from finetune.planner.devices import Device
from finetune.planner.plan import as_dict, hints
from finetune.planner.probe import probe, training_device

if TYPE_CHECKING:
    from finetune.packing import Layout

# Tokens of the probe's sample: enough to tell a device's speed, little beside the training.
_PROBED = 4096


@dataclass(slots=True, kw_only=True)
class Sizing:
    """A training's settings without `auto`, and what is predicted of it.

    Of an architecture that the planner does not know `shape` is None and nothing is predicted: its
    `auto` settings are those that take the least memory.
    """

    settings: FinetuneSection
    device: Device
    lengths: Sequence[int]
    shape: Shape | None
    why: list[str]
    asked: FinetuneSection
    calibration: Calibration | None = None

    @property
    def plan(self) -> Plan | None:
        """The prediction as it stands, with what a probe has measured."""
        if self.shape is None:
            return None
        return plan(self.settings, self.shape, self.device, self.lengths, self.calibration)

    def calibrate(self, model: Any, layout: Layout, folder: Path, resumed: bool) -> None:
        """Measure the model on its GPU, once a training, and settle by that what is at once.

        A training that goes on does so by what was measured when it began: other micro-batches
        would round differently. On a CPU, where the choice does not depend on speed, the training
        itself is the measurement. Several processes would measure differently, and must settle the
        same.
        """
        if self.shape is None or not self.device.cuda or self.settings.launch.gpus > 1:
            return
        if resumed:
            self.calibration = read_calibration(folder, self.device.name)
        else:
            tokens = max(2, min(_PROBED, max(self.lengths)))
            self.calibration = probe(model, self.settings, self.shape, self.device, layout, tokens)
            write_calibration(folder, self.calibration)
        loaded = self.asked.model_copy(update={"quantize": self.settings.quantize})
        self.settings, why = resolve(
            loaded, self.shape, self.device, self.lengths, self.calibration
        )
        self.why = [line for line in self.why if line.startswith("quantize")] + why

    def out_of_memory(self, error: BaseException, rows: int = 1) -> str:
        """What to tell the user when `rows` rows did not fit."""
        made = self.plan
        if made is not None:
            return explain_oom(made, error, rows)
        return (
            f"out of memory with {rows} row{'s' * (rows > 1)} of at most {max(self.lengths):,} "
            "tokens; lower finetune.max_length, or set gradient_checkpointing: true, quantize: "
            "nf4, or micro_batch: 1"
        )

    @contextlib.contextmanager
    def explain(self) -> Iterator[None]:
        """Memory that runs out inside is told of in one line, as a `MemoryError`."""
        import torch

        try:
            yield
        except torch.OutOfMemoryError as error:
            raise MemoryError(self.out_of_memory(error)) from error

    def operations(self, lengths: Sequence[int], learnt: int) -> float | None:
        """That learning samples of `lengths` tokens needs, `learnt` of them learnt, as a part of
        what all GPUs can do in a second by their data sheet: seconds at full use.
        """
        if self.shape is None or self.device.flops is None or not self.device.cuda:
            return None
        tokens = sum(lengths)
        each = flops_per_token(self.shape, self.settings, lengths, learnt / tokens)
        return each * tokens / (self.device.flops * self.settings.launch.gpus)

    def conclude(self, measured: Mapping[str, float], learnt: int, folder: Path) -> dict[str, Any]:
        """For the manifest: the plan, predicted against actual, hints; and for later plans in
        `folder`, how fast this device was. `learnt` are the tokens of an epoch that are learnt.
        """
        made = self.plan
        if made is None:
            return {"plan": None, "predicted": {}, "hints": []}
        actual = measured["tokens_per_second"]
        if self.calibration is None and made.tokens_per_second and actual:
            speed = actual / made.tokens_per_second
            found = Calibration(
                device=self.device.name, memory=1.0, speed=speed, tokens=made.row_tokens
            )
            write_calibration(folder, found)
        return {
            "plan": {**as_dict(made), "why": self.why},
            "predicted": compare(made, measured),
            "hints": hints(self.settings, made.trained, learnt),
        }


def size_up(settings: FinetuneSection, config: Any, lengths: Sequence[int]) -> Sizing:
    """Settle what is `auto` before anything is loaded. `config` is the student's, `lengths` are its
    samples' in tokens.

    Raises:
        ValueError: the adapter's targets name no layer.

    """
    device = training_device()
    try:
        shape = read_shape(config.to_dict())
    except ValueError:  # another architecture than the planner's can be trained all the same
        return Sizing(
            settings=_careful(settings, device), device=device, lengths=lengths, shape=None,
            why=["the planner does not know this architecture: as little at once as can be"],
            asked=settings,
        )  # fmt: skip
    settled, why = resolve(settings, shape, device, lengths)
    return Sizing(
        settings=settled, device=device, lengths=lengths, shape=shape, why=why, asked=settings
    )


def _careful(settings: FinetuneSection, device: Device) -> FinetuneSection:
    update: dict[str, Any] = {}
    if settings.quantize == "auto":
        update["quantize"] = "none"
    if settings.gradient_checkpointing == "auto":
        update["gradient_checkpointing"] = device.cuda
    if settings.micro_batch == "auto":
        update["micro_batch"] = 1
    return settings.model_copy(update=update)
