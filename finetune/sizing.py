"""Resolve a training's `auto` settings by the planner, on the device that it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.packing import AttentionLayout
from finetune.planner import (
    Shape,
    TrainingPlan,
    compare,
    explain_oom,
    flops_per_token,
    plan,
    resolve,
)
from finetune.planner.calibration import Calibration, read_calibration, write_calibration
from finetune.planner.choose import careful
from finetune.planner.devices import Device
from finetune.planner.measure import measure_step, training_device
from finetune.planner.plan import hints, plan_figures
from finetune.planner.probe import probed
from finetune.planner.rates import settle_rates
from finetune.planner.shape import is_known
from finetune.planner.unknown import shape_of
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records.figures import PlanFigures, Predicted

# Tokens of the measured sample: enough to tell a device's speed, little beside the training.
_MEASURED = 4096
# Seconds of a training on a CPU from which it is worth some more to measure its speed first.
_WORTH = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The plan of a finished training, its predictions beside what was measured, and hints for the
    user.
    """

    plan: PlanFigures | None = None
    predicted: dict[str, Predicted]
    hints: list[str]


@dataclass(slots=True, kw_only=True)
class Sizing:
    """A training's settings without `auto`, and the planner's predictions.

    For an architecture that the planner does not know, `shape` is None and nothing is predicted;
    its `auto` settings are those that take the least memory. `asked` are the recipe's settings.
    """

    settings: FinetuneSection
    device: Device
    lengths: Sequence[int]
    shape: Shape | None
    why: list[str]
    asked: FinetuneSection
    config: Mapping[str, Any]
    learnt: float = 1.0
    calibration: Calibration | None = None
    rates: list[str] = field(default_factory=list)
    """How the learning rate and the rank were chosen, a line each."""

    @property
    def plan(self) -> TrainingPlan | None:
        """The plan as it stands, calibrated if the device was measured."""
        if self.shape is None:
            return None
        return plan(
            self.settings, self.shape, self.device, self.lengths, self.calibration, self.learnt
        )

    def calibrate(self, model: Any, layout: AttentionLayout, folder: Path, resumed: bool) -> None:
        """Measure the model on its GPU, once a training, and resolve `auto` by that.

        A resumed training reads what was measured at its start: other micro-batches would round
        differently. On a CPU the choice does not depend on speed; it is measured where the training
        takes longer than that. Several processes would measure, and so resolve, differently.
        """
        if self.shape is None or self.settings.launch.gpus > 1:
            return
        if not self.device.cuda:
            made = self.plan
            if made is not None and (made.hours or 0.0) * 3600 > _WORTH:
                made = probed(self.config, made)
                self.device, self.calibration = made.job.device, made.job.calibration
            return
        if resumed:
            self.calibration = read_calibration(folder, self.device.name)
        else:
            tokens = max(2, min(_MEASURED, max(self.lengths)))
            self.calibration = measure_step(
                model, self.settings, self.shape, self.device, layout, tokens
            )
            write_calibration(folder, self.calibration)
        loaded = self.asked.model_copy(update={"quantize": self.settings.quantize})
        self.settings, why = resolve(
            loaded, self.shape, self.device, self.lengths, self.calibration
        )
        self.why = [line for line in self.why if line.startswith("quantize")] + why

    def go_through(self, epochs: float) -> None:
        """Plan for so many epochs in the place of all stages together."""
        whole = {"epochs": epochs, "stages": []}
        self.settings = self.settings.model_copy(update=whole)
        self.asked = self.asked.model_copy(update=whole)

    def out_of_memory(self, error: BaseException) -> str:
        """The message for the user when not even one row fits."""
        made = self.plan
        if made is not None:
            return explain_oom(made, error, 1)
        return (
            f"out of memory with 1 row of at most {max(self.lengths):,} tokens; lower "
            "finetune.max_length, or set gradient_checkpointing: true, or quantize: nf4"
        )

    def ideal_seconds(self, lengths: Sequence[int], learnt: int) -> float | None:
        """The seconds that learning from samples of `lengths` tokens, `learnt` of them learnt,
        takes if all GPUs compute at the peak of their data sheet; None if that is unknown.
        """
        if self.shape is None or self.device.flops is None or not self.device.cuda:
            return None
        tokens = sum(lengths)
        each = flops_per_token(self.shape, self.settings, lengths, learnt / tokens)
        return each * tokens / (self.device.flops * self.settings.launch.gpus)

    def conclude(
        self, tokens_per_second: float, memory_bytes: float | None, learnt: int, folder: Path
    ) -> Conclusion:
        """Compare a finished training with its plan, and keep in `folder`, for later plans, how
        fast this device was. `learnt` tokens are learnt in an epoch.
        """
        made = self.plan
        if made is None:
            return Conclusion(predicted={}, hints=[])
        if not self.device.cuda and made.tokens_per_second and tokens_per_second:
            measured = self.calibration.speed if self.calibration else 1.0
            found = Calibration(
                device=self.device.name,
                memory=1.0,
                speed=measured * tokens_per_second / made.tokens_per_second,
                tokens=made.row_tokens,
                flops=self.device.flops,
                bandwidth=self.device.bandwidth,
            )
            write_calibration(folder, found)
        return Conclusion(
            plan=plan_figures(made, self.why),
            predicted=compare(made, tokens_per_second, memory_bytes),
            hints=hints(self.settings, self.device, made.trained, learnt),
        )


def size_up(
    settings: FinetuneSection, config: Any, lengths: Sequence[int], learnt: float = 1.0
) -> Sizing:
    """Resolve `auto` before weights are loaded. `config` is the student's, `lengths` are its
    samples' in tokens, `learnt` is the share of these that is learnt.

    Raises:
        ValueError: the adapter's targets name no layer.

    """
    device = training_device()
    values = config.to_dict()
    shape = _shape(values, device)
    settings, rates = settle_rates(settings, shape, lengths, learnt)
    if shape is None:
        settled, why = careful(settings, device)
    else:
        settled, why = resolve(settings, shape, device, lengths)
    return Sizing(
        settings=settled, device=device, lengths=lengths, shape=shape, why=why, asked=settings,
        config=values, learnt=learnt, rates=rates,
    )  # fmt: skip


def _shape(config: Mapping[str, Any], device: Device) -> Shape | None:
    """The student's shape; None for one that can't be planned, or is not worth tracing on a CPU."""
    if not is_known(config) and not device.cuda:
        return None
    try:
        return shape_of(config)
    except ValueError:  # it can be trained, without a plan
        return None
