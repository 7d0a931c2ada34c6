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
from finetune.sample import REPLAYED
from tracestill.recipe.curriculum import Schedule, TrainingStage
from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.selection import Select


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stage of a course: its number of steps, and of those that go through all its rows once."""

    steps: int
    each: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The rows and steps of a training. `rates` are the learning rates of its steps, empty where
    there are no stages; `parts` are the stages, or the training as the only one.
    """

    rows: list[PackedRow]
    steps: list[list[int]]
    parts: list[Part]
    rates: list[float]

    @property
    def peak(self) -> float:
        """The highest learning rate, where there are stages."""
        return max(self.rates)

    def factor(self, done: int) -> float:
        """The learning rate after `done` steps, relative to `peak`, where there are stages."""
        return self.rates[min(done, len(self.rates) - 1)] / self.peak

    def place(self, step: int) -> dict[str, float]:
        """Where the training is after `step` steps: its `epoch`, and with stages that of the
        `stage`, counted from 1.
        """
        number, before = 0, 0
        while number < len(self.parts) - 1 and step > before + self.parts[number].steps:
            before += self.parts[number].steps
            number += 1
        epoch = round((step - before) / self.parts[number].each, 4)
        return {"stage": number + 1, "epoch": epoch} if self.rates else {"epoch": epoch}

    def passes(self, lengths: Sequence[int]) -> float:
        """How often a token is learnt from, on average, of samples of these lengths."""
        rows = [sum(lengths[place] for place in row) for row in self.rows]
        return sum(rows[row] for step in self.steps for row in step) / sum(lengths)


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
        made = steps(rows, settings.batch_size, settings.longest, seed)
        part = Part(steps=len(made), each=-(-len(rows) // settings.batch_size))
        return Course(rows=rows, steps=made, parts=[part], rates=[])
    course = Course(rows=[], steps=[], parts=[], rates=[])
    for number, (stage, chosen) in enumerate(zip(settings.stages, selected, strict=True)):
        places = [
            place
            for place, trace in enumerate(traces)
            if chosen is None or trace in chosen or trace.startswith(REPLAYED)
        ]
        if all(traces[place].startswith(REPLAYED) for place in places):
            raise ValueError(
                f"finetune.stages: none of the traces that stage {number + 1} selects can be "
                "learnt: all are held out, or were left out; widen its selection"
            )
        packing = settings.packing if stage.packing is None else stage.packing
        rows = _rows(places, lengths, settings, packing=packing)
        batch = stage.batch_size or settings.batch_size
        own = steps(rows, batch, stage.epochs or settings.longest, seed + number)
        course.steps.extend([[len(course.rows) + row for row in step] for step in own])
        course.rows.extend(rows)
        course.rates.extend(_rates(stage, settings, len(own), stage.learning_rate or rate))
        course.parts.append(Part(steps=len(own), each=-(-len(rows) // batch)))
    return course


def expected_epochs(settings: FinetuneSection, lengths: Sequence[int]) -> float:
    """How often a token is learnt from on average, at most, as well as it is known before the
    stages' traces are selected: limits in traces, tokens and shares count, other ones take all.
    """
    if not settings.stages:
        return settings.longest
    return sum(
        (stage.epochs or settings.longest) * _share(stage.select, lengths)
        for stage in settings.stages
    )


def _share(select: Select | None, lengths: Sequence[int]) -> float:
    """The part of the traces that a selection leaves at most."""
    if select is None or not lengths:
        return 1.0
    limits = [select.share or 1.0]
    if select.total is not None:
        limits.append(select.total / len(lengths))
    if select.tokens is not None:
        limits.append(select.tokens / sum(lengths))
    return min(1.0, *limits)


def _rows(
    places: Sequence[int], lengths: Sequence[int], settings: FinetuneSection, *, packing: bool
) -> list[PackedRow]:
    if not packing:
        return [[place] for place in places]
    packed = pack([lengths[place] for place in places], settings.max_length)
    return [[places[index] for index in row] for row in packed]


def _rates(stage: TrainingStage, settings: FinetuneSection, total: int, peak: float) -> list[float]:
    schedule = stage.schedule or settings.known_schedule
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
