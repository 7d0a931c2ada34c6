"""Supervised fine-tuning on the samples of a setup, resumable at any checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune import checkpoints, group, metrics, saturation, sharding, tracking
from finetune.arguments import training_arguments
from finetune.callbacks import at_start, at_steps
from finetune.checkpoints import step_of
from finetune.keep import remember_best, take_weights
from finetune.monitor import TrainingMonitor
from finetune.packing import AttentionLayout
from finetune.packing_check import check_packing
from finetune.saturation import AutoEpochs, auto_epochs
from finetune.setup import Setup, Training
from finetune.sizing import Conclusion
from finetune.step import MicroBatch, peak_memory
from finetune.student import add_adapter, load_student
from finetune.tokenizer import pad_id
from finetune.trainer import make_trainer
from tracestill.records import OnProgress, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained model without its optimiser, and figures of its training: see `TrainingFigures`."""

    model: Any
    steps: int
    loss: float | None
    trainable_parameters: int
    resumed_from_step: int
    micro_batch: MicroBatch
    conclusion: Conclusion
    epochs: AutoEpochs | None
    """What decided how many there were, where the recipe did not."""
    kept: str | None
    """Which weights the model has, if they are not the last."""


def fit(training: Training, setup: Setup, progress: OnProgress) -> Fitted | None:
    """Train the student in this process, and in the others of its group if it is in one; None in
    all of them but the first.

    Raises:
        ValueError: the folder holds another training's checkpoints, or the settings do not fit the
            model or this machine.
        MemoryError: not even one row fits.

    """
    import torch
    from transformers import PrinterCallback, set_seed

    folder, data, sizing = training.folder, setup.data, setup.sizing
    resumed = _resume(training, setup)
    set_seed(training.seed)
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // group.world()))

    longest = max(sizing.lengths)
    try:
        loaded = load_student(training.student, sizing.settings, longest)
        model = add_adapter(loaded.model, sizing.settings)
        sizing.calibrate(model, loaded.layout, folder, resumed is not None)
    except torch.OutOfMemoryError as error:
        raise MemoryError(sizing.out_of_memory(error)) from error
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # the plan predicts the training's peak
    settings = sizing.settings
    micro = MicroBatch(rows=int(settings.micro_batch), explain=sizing.out_of_memory)
    if "wandb" in settings.report_to:
        tracking.settle_wandb(training.name, folder)
    course = setup.course
    epochs = auto_epochs(settings, course.parts[0].each, resumed)
    if epochs is not None:
        data = replace(data, steps=data.steps[: epochs.total])
    arguments = training_arguments(
        settings, folder / "checkpoints", len(data.steps), training.seed, training.name,
        course.peak if course.rates else None,
    )  # fmt: skip
    factor = course.factor if course.rates else None
    trainer = make_trainer(
        model, arguments, setup.tokenizer, data, loaded.layout, micro, sizing.ideal_seconds,
        settings.loss, epochs.factor if epochs is not None else factor,
    )  # fmt: skip
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    _add_callbacks(trainer, training, setup, loaded.layout, resumed, epochs, progress)
    trainer.remove_callback(PrinterCallback)
    result = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)

    kept = take_weights(trainer, settings, folder / "checkpoints")
    trained: Any = trainer.model
    weights = sharding.gather(trainer, settings) if settings.launch.sharded else None
    # Frees memory that distillation and export need.
    trainer.accelerator.free_memory()
    trainer.optimizer = trainer.lr_scheduler = None
    if not group.leave():
        return None
    if weights is not None:
        trained = sharding.unsharded(weights, settings, training.student, longest)
    rows = metrics.read(folder / metrics.METRICS)
    return Fitted(
        model=trained,
        steps=result.global_step,
        loss=rows[-1]["loss"] if rows else None,
        trainable_parameters=trainable,
        resumed_from_step=step_of(resumed),
        micro_batch=micro,
        conclusion=sizing.conclude(
            metrics.tokens_per_second(rows),
            peak_memory() if torch.cuda.is_available() else None,
            sum(sample.learnt for sample in data.samples),
            folder,
        ),
        epochs=epochs,
        kept=kept,
    )


def _resume(training: Training, setup: Setup) -> Path | None:
    """The checkpoint to resume from; metrics of later steps are removed."""
    folder = training.folder
    folder.mkdir(parents=True, exist_ok=True)
    with group.first_before_others():
        resumed = checkpoints.last_checkpoint(
            folder / "checkpoints", setup.identity, len(setup.data.steps)
        )
    if group.is_first():
        for name in (metrics.METRICS, metrics.HELDOUT, metrics.MONITOR):
            metrics.trim(folder / name, step_of(resumed))
    return resumed


def _add_callbacks(
    trainer: Any,
    training: Training,
    setup: Setup,
    layout: AttentionLayout,
    resumed: Path | None,
    epochs: AutoEpochs | None,
    progress: OnProgress,
) -> None:
    settings, data, folder = setup.settings, setup.data, training.folder
    course = setup.course
    pad = pad_id(setup.tokenizer)
    losses: dict[int, float] = {}
    scores: dict[int, float] = {}

    def measure_heldout(state: Any) -> None:
        device = trainer.args.device
        seen = metrics.heldout_loss(trainer.model, setup.heldout, layout, pad, device)
        losses[state.global_step] = seen["heldout_loss"]
        if settings.monitor is None:
            scores[state.global_step] = -seen["heldout_loss"]
        if state.is_world_process_zero:
            metrics.append(folder / metrics.HELDOUT, {"step": state.global_step, **seen})
            trainer.log(metrics.tracked(seen))

    def tell(event: Progress) -> None:
        progress(replace(event, at_most=epochs is not None and not epochs.is_settled))

    if any(len(row) > 1 for row in data.rows):
        trainer.add_callback(
            at_start(lambda _: check_packing(trainer.model, data.samples, layout, pad))
        )
    if "tensorboard" in settings.report_to:
        tracking.add_tensorboard(trainer, folder / "tensorboard", step_of(resumed))
    trainer.add_callback(
        metrics.make_reporter(
            folder / metrics.METRICS, setup.identity, tell,
            course.place, epochs.write if epochs is not None else None,
        )
    )  # fmt: skip
    if setup.heldout:
        if resumed is None:
            trainer.add_callback(at_start(measure_heldout))
        each = (epochs.each,) if epochs is not None else ()
        trainer.add_callback(at_steps(measure_heldout, settings.checkpoint_every, *each))
    if epochs is not None:
        trainer.add_callback(saturation.follow(epochs, losses))
    if settings.monitor is not None:
        watched = TrainingMonitor(
            asked=setup.asked,
            tokenizer=setup.tokenizer,
            contract=setup.rendered.contract,
            endings=setup.rendered.endings,
            grade=training.grade,
            max_tokens=settings.monitor.max_tokens,
            at_once=settings.max_length,  # a packed row's activations are more than its cache
            path=folder / metrics.MONITOR,
        )

        def look(state: Any) -> None:
            passed = watched.look(trainer, state)
            if passed is not None:
                scores[state.global_step] = passed

        trainer.add_callback(at_steps(look, settings.monitor.every))
    if settings.keep == "best":
        trainer.add_callback(remember_best(scores))
