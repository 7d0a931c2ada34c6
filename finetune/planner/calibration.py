"""What a device was measured to take and do, as factors of what is predicted."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from finetune.planner.memory import CONTEXT, SLACK, Memory
from tracestill.records import write_atomic

CALIBRATION = "calibration.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """`memory`: activations and logits as measured, by those predicted. `speed`: tokens a second
    as measured, by those predicted. `tokens`: of the micro-batch that was measured.
    """

    device: str
    memory: float
    speed: float
    tokens: int

    def scaled(self, memory: Memory) -> Memory:
        """A prediction, with the factor on what depends on the data."""
        activations = round(memory.activations * self.memory)
        logits = round(memory.logits * self.memory)
        more = activations + logits - memory.activations - memory.logits
        overhead = memory.overhead + round(SLACK * more) if memory.overhead >= CONTEXT else 0
        return dataclasses.replace(
            memory, activations=activations, logits=logits, overhead=overhead
        )


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Keep it with a run."""
    text = json.dumps(dataclasses.asdict(calibration), indent=2) + "\n"
    write_atomic(folder / CALIBRATION, text.encode())


def read_calibration(folder: Path, device: str) -> Calibration | None:
    """What a run measured, if it was on a device of that name."""
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    found = Calibration(**json.loads(path.read_text()))
    return found if found.device == device else None
