"""A training in stages as one list of steps: each stage's rows one after the other, each with its
own epochs, batches and learning rate.

One training, instead of one after the other: the optimiser's state is carried over, a kill resumes
as in any training, and there is one set of metrics.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from finetune.packing import PackedRow, pack, steps
from tracestill.recipe.curriculum import Schedule, TrainingStage
from tracestill.recipe.finetune import FinetuneSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The rows and steps of a training. `rates` are the learning rates of its steps, and `stages`
    says for each stage how many steps it makes; both are empty where there are no stages.
    """

    rows: list[PackedRow]
    steps: list[list[int]]
    rates: list[float]
    stages: list[int]


def lay_out(
    traces: Sequence[str],
    lengths: Sequence[int],
    settings: FinetuneSection,
    selected: Sequence[Collection[str] | None],
    seed: int,
    rate: float,
) -> Course:
    """The course of a training on samples of these traces, `lengths` tokens each. `selected` holds
    for each of `settings.stages` its traces, None for all of them; `rate` is the learning rate of
    stages that say none.

    Raises:
        ValueError: none of a stage's traces is among the samples.

    """
    if not settings.stages:
        rows = _rows(range(len(lengths)), lengths, settings, packing=settings.packing)
        made = steps(rows, settings.batch_size, settings.epochs, seed)
        return Course(rows=rows, steps=made, rates=[], stages=[])
    course = Course(rows=[], steps=[], rates=[], stages=[])
    for number, (stage, chosen) in enumerate(zip(settings.stages, selected, strict=True)):
        places = [place for place, trace in enumerate(traces) if chosen is None or trace in chosen]
        if not places:
            raise ValueError(
                f"finetune.stages: none of the traces that stage {number + 1} selects can be "
                "learnt: all are held out, or were left out; widen its selection"
            )
        packing = settings.packing if stage.packing is None else stage.packing
        rows = _rows(places, lengths, settings, packing=packing)
        own = steps(
            rows, stage.batch_size or settings.batch_size, stage.epochs or settings.epochs,
            seed + number,
        )  # fmt: skip
        course.steps.extend([[len(course.rows) + row for row in step] for step in own])
        course.rows.extend(rows)
        course.rates.extend(_rates(stage, settings, len(own), stage.learning_rate or rate))
        course.stages.append(len(own))
    return course


def _rows(
    places: Sequence[int], lengths: Sequence[int], settings: FinetuneSection, *, packing: bool
) -> list[PackedRow]:
    if not packing:
        return [[place] for place in places]
    packed = pack([lengths[place] for place in places], settings.max_length)
    return [[places[index] for index in row] for row in packed]


def _rates(stage: TrainingStage, settings: FinetuneSection, total: int, peak: float) -> list[float]:
    schedule: Schedule = stage.schedule or settings.schedule
    share = settings.warmup if stage.warmup is None else stage.warmup
    warmup = round(total * share)
    return [peak * _factor(step, total, warmup, schedule) for step in range(total)]


def _factor(step: int, total: int, warmup: int, schedule: Schedule) -> float:
    """The part of the peak rate at a step: the schedules of transformers."""
    if step < warmup:
        return step / warmup
    if schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
