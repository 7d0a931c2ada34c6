"""Measurements of a device, as factors of the predictions."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from finetune.planner.devices import Device
from finetune.planner.memory import CONTEXT, SLACK, Memory
from tracestill.records import write_atomic

CALIBRATION = "calibration.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Measured by predicted: `memory` of activations and logits, `speed` in tokens per second.
    `tokens` is the size of the measured micro-batch. `flops` and `bandwidth` are the device's that
    the prediction went by, where they are measured anew each time, as a CPU's.
    """

    device: str
    memory: float
    speed: float
    tokens: int
    flops: float | None = None
    bandwidth: float | None = None

    def of(self, device: Device) -> Device:
        """The device as the prediction knew it."""
        if self.flops is None:
            return device
        return dataclasses.replace(device, flops=self.flops, bandwidth=self.bandwidth)

    def scaled(self, memory: Memory) -> Memory:
        """A prediction with the memory that depends on the data scaled."""
        activations = round(memory.activations * self.memory)
        logits = round(memory.logits * self.memory)
        more = activations + logits - memory.activations - memory.logits
        overhead = memory.overhead + round(SLACK * more) if memory.overhead >= CONTEXT else 0
        return dataclasses.replace(
            memory, activations=activations, logits=logits, overhead=overhead
        )


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Keep a calibration in a run's folder."""
    text = json.dumps(dataclasses.asdict(calibration), indent=2) + "\n"
    write_atomic(folder / CALIBRATION, text.encode())


def read_calibration(folder: Path, device: str) -> Calibration | None:
    """The calibration of a run, if it is of a device of this name."""
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    found = Calibration(**json.loads(path.read_text()))
    return found if found.device == device else None
