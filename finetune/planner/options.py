"""Ways to train a student on a device: what each takes and how long it lasts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune.config import FinetuneSection
from finetune.planner import devices
from finetune.planner.calibration import Calibration
from finetune.planner.devices import Device
from finetune.planner.memory import Load, Memory, memory
from finetune.planner.shape import Shape
from finetune.planner.speed import step_seconds

# The part of a device's memory that may be used: of a GPU, which holds nothing else, nearly all.
_OF_GPU, _OF_HOST = 0.95, 0.8
# What `auto` lets one micro-batch take of a host's memory, in which others live too.
_AUTO_OF_HOST = 0.25
# Whose speed stands in, to tell faster from slower, where only the memory is known.
_REFERENCE = "RTX 4090"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A student, what it learns from and where. `lengths` are the samples' in tokens; there may be
    none yet.
    """

    shape: Shape
    device: Device
    lengths: Sequence[int] = ()
    calibration: Calibration | None = None

    @property
    def limit(self) -> int:
        """Bytes that may be used."""
        return int(self.device.memory * (_OF_GPU if self.device.cuda else _OF_HOST))

    @property
    def comfortable(self) -> int:
        """Bytes that `auto` uses."""
        return self.limit if self.device.cuda else int(self.device.memory * _AUTO_OF_HOST)


def bfloat16(settings: FinetuneSection, device: Device) -> bool:
    """Whether products are computed in bfloat16."""
    return device.cuda if settings.dtype == "auto" else settings.dtype == "bfloat16"


def kept(job: Job, settings: FinetuneSection) -> list[int]:
    """The lengths of the samples that are not too long; of one that fills a row if none are
    known.
    """
    if not job.lengths:
        return [settings.max_length]
    return [length for length in job.lengths if length <= settings.max_length]


def own_rows(job: Job, settings: FinetuneSection) -> int:
    """Rows of an optimiser step on each device."""
    most = math.ceil(settings.batch_size / settings.launch.gpus)
    if not job.lengths:
        return most
    return max(1, min(most, _rows(kept(job, settings), settings)))


def _rows(lengths: Sequence[int], settings: FinetuneSection) -> int:
    if settings.packing:
        return math.ceil(sum(lengths) / settings.max_length)
    return len(lengths)


def load(job: Job, settings: FinetuneSection, rows: int) -> Load:
    """What is on a device at once with `rows` rows, at the worst."""
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
    """What settings without `auto` take."""
    assert settings.micro_batch != "auto"
    rows = min(settings.micro_batch, own_rows(job, settings))
    predicted = memory(
        job.shape,
        settings,
        load(job, settings, rows),
        bfloat16=bfloat16(settings, job.device),
        cuda=job.device.cuda,
    )
    return job.calibration.scaled(predicted) if job.calibration else predicted


def seconds_per_token(job: Job, settings: FinetuneSection) -> float | None:
    """Of all devices together, or None where the device's speed is not known."""
    assert settings.micro_batch != "auto"
    lengths = kept(job, settings)
    if not lengths:
        return None
    every = own_rows(job, settings)
    rows = min(settings.micro_batch, every)
    one = load(job, settings, rows)
    if job.lengths:  # on average, not at the worst
        mean = sum(lengths) / _rows(lengths, settings)
        tokens = max(1, round(min(one.tokens, rows * mean)))
        one = replace(one, tokens=tokens, learnt=tokens)
    parts = every / rows
    factor = job.calibration.speed if job.calibration else 1.0
    step = step_seconds(job.shape, settings, job.device, one, lengths, parts, factor)
    return None if step is None else step / (one.tokens * parts * settings.launch.gpus)


def cost(job: Job, settings: FinetuneSection) -> float:
    """What a token takes, to tell cheaper from dearer."""
    known = seconds_per_token(job, settings)
    if known is None:
        stand_in = devices.named(_REFERENCE)
        known = seconds_per_token(replace(job, device=stand_in, calibration=None), settings)
    return known if known is not None else math.inf


def row_counts(most: int) -> list[int]:
    """Sizes of micro-batches to look at, `most` among them."""
    counts = [1]
    while counts[-1] * 2 < most:
        counts.append(counts[-1] * 2)
    return counts if most == 1 else [*counts, most]
