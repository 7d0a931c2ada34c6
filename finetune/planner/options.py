"""The memory and time that settings take for a student on a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune.planner import devices
from finetune.planner.calibration import Calibration
from finetune.planner.devices import Device
from finetune.planner.memory import Memory, memory
from finetune.planner.shape import Shape
from finetune.planner.speed import step_seconds
from finetune.planner.terms import Load, Moment
from tracestill.recipe.finetune import FinetuneSection

# The share of a device's memory that may be used: of a GPU, which holds nothing else, nearly all.
_OF_GPU, _OF_HOST = 0.95, 0.8
# The share of a host's memory, which others use too, that `auto` takes.
_AUTO_OF_HOST = 0.25
# Its speed is used to compare settings where only a device's memory is known.
_REFERENCE = "RTX 4090"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A student, the device and the lengths of its samples in tokens, none if they are not known
    yet; `learnt` is the share of tokens that are learnt.
    """

    shape: Shape
    device: Device
    lengths: Sequence[int] = ()
    learnt: float = 1.0
    calibration: Calibration | None = None

    @property
    def limit(self) -> int:
        """The bytes that may be used."""
        return int(self.device.memory * (_OF_GPU if self.device.cuda else _OF_HOST))

    @property
    def comfortable(self) -> int:
        """The bytes that `auto` uses."""
        return self.limit if self.device.cuda else int(self.device.memory * _AUTO_OF_HOST)


def bfloat16(settings: FinetuneSection, device: Device) -> bool:
    """Whether the student computes in bfloat16."""
    return device.cuda if settings.dtype == "auto" else settings.dtype == "bfloat16"


def kept(job: Job, settings: FinetuneSection) -> list[int]:
    """The lengths of the samples that are trained on: those too long are left out, or with
    `overlong: prefix` cut. If none are known, the length of a row.
    """
    longest = settings.max_length
    if not job.lengths:
        return [longest]
    if settings.overlong == "prefix":
        return [min(length, longest) for length in job.lengths]
    return [length for length in job.lengths if length <= longest]


def own_rows(job: Job, settings: FinetuneSection) -> int:
    """The rows of an optimiser step on each device."""
    most = math.ceil(settings.batch_size / settings.launch.gpus)
    if not job.lengths:
        return most
    return max(1, min(most, _rows(kept(job, settings), settings)))


def _rows(lengths: Sequence[int], settings: FinetuneSection) -> int:
    if settings.packing:
        return math.ceil(sum(lengths) / settings.max_length)
    return len(lengths)


def load(job: Job, settings: FinetuneSection, rows: int) -> Load:
    """The largest micro-batch of `rows` rows."""
    lengths = kept(job, settings) or [settings.max_length]
    longest = max(lengths)
    tokens = rows * (settings.max_length if settings.packing else longest)
    if job.lengths:
        tokens = max(longest, min(tokens, sum(lengths)))
    return Load(
        tokens=tokens,
        learnt=tokens,
        longest=longest,
        accumulates=own_rows(job, settings) > rows,
    )


def needs(job: Job, settings: FinetuneSection) -> Memory:
    """The memory that settings without `auto` take."""
    assert settings.micro_batch != "auto"
    rows = min(settings.micro_batch, own_rows(job, settings))
    predicted = needed(job.shape, settings, job.device, load(job, settings, rows))
    return job.calibration.scaled(predicted) if job.calibration else predicted


def needed(shape: Shape, settings: FinetuneSection, device: Device, load: Load) -> Memory:
    """The memory that a micro-batch takes, by the formulas or by tracing it.

    Raises:
        ValueError: the adapter's targets name no layer, or the model can't be traced.

    """
    mixed = bfloat16(settings, device)
    traced: list[Moment] = []
    if shape.traced is not None:
        from finetune.planner.unknown import traced_moments

        traced = traced_moments(shape, settings, load, bfloat16=mixed)
    return memory(shape, settings, load, bfloat16=mixed, cuda=device.cuda, traced=traced)


def seconds_per_token(job: Job, settings: FinetuneSection) -> float | None:
    """Seconds per token of all devices together; None if the device's speed is unknown."""
    assert settings.micro_batch != "auto"
    lengths = kept(job, settings)
    if not lengths:
        return None
    every = own_rows(job, settings)
    one = average(job, settings)
    parts = every / min(settings.micro_batch, every)
    factor = job.calibration.speed if job.calibration else 1.0
    step = step_seconds(job.shape, settings, job.device, one, lengths, parts, factor)
    return None if step is None else step / (one.tokens * parts * settings.launch.gpus)


def average(job: Job, settings: FinetuneSection) -> Load:
    """The average micro-batch."""
    rows = min(int(settings.micro_batch), own_rows(job, settings))
    most = load(job, settings, rows)
    if not job.lengths:
        return most
    lengths = kept(job, settings)
    mean = sum(lengths) / _rows(lengths, settings)
    tokens = max(1, round(min(most.tokens, rows * mean)))
    return replace(most, tokens=tokens, learnt=max(1, round(tokens * job.learnt)))


def cost(job: Job, settings: FinetuneSection) -> float:
    """Seconds per token, on a reference card if the device's speed is unknown: for comparisons."""
    known = seconds_per_token(job, settings)
    if known is None:
        stand_in = devices.named(_REFERENCE)
        known = seconds_per_token(replace(job, device=stand_in, calibration=None), settings)
    return known if known is not None else math.inf


def row_counts(most: int) -> list[int]:
    """The sizes of micro-batches to consider, `most` among them."""
    counts = [1]
    while counts[-1] * 2 < most:
        counts.append(counts[-1] * 2)
    return counts if most == 1 else [*counts, most]
