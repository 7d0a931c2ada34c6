"""Train a student on kept traces: set up, fit, distil on-policy if asked, export."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finetune import metrics, monitor, tracking
from finetune.export import export
from finetune.launch import run_together
from finetune.merge import release
from finetune.on_policy import Distillation, distil_on_policy
from finetune.overlong import describe
from finetune.sample import Example
from finetune.setup import Setup, Training, set_up
from finetune.sft import Fitted, fit
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records import OnProgress, Progress
from tracestill.records.figures import ExportFigures, OnPolicyFigures, TrainingFigures
from tracestill.records.gguf import model_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A finished training.

    `dropped` counts examples that were left out, by reason. `learnt` and `heldout` are the ids of
    the traces that were trained on and of those that were held out. `notes` are lines for the user
    to read.
    """

    figures: TrainingFigures
    dropped: dict[str, int]
    learnt: list[str]
    heldout: list[str]
    notes: list[str]


def train(
    examples: Sequence[Example],
    settings: FinetuneSection,
    *,
    student: str,
    template: Path,
    folder: Path,
    seed: int,
    progress: OnProgress,
    name: str = "tracestill",
    grade: monitor.Grade | None = None,
    stages: Sequence[Collection[str] | None] = (),
) -> Trained:
    """Fine-tune a student and save it in `folder`: `merged/`, `adapter/`, `metrics.jsonl`.

    `student` is a hub id or the absolute path of a folder or of a GGUF file. A run that was killed
    resumes from its last whole checkpoint in `folder`, and ends in the same weights. The caller
    removes checkpoints by `finetune.checkpoints.forget`, once the result is declared complete.
    Trackers know the training by `name`. `grade` says which of the monitor's answers are right;
    with several processes it must be picklable. `stages` are for each of `settings.stages` the ids
    of the traces that it learns, None for all of them.

    Raises:
        ValueError: the student, the template or the samples can't be used, or `folder` holds the
            checkpoints of another training; one line with the fix.
        MemoryError: not even one row fits; the message says what takes the memory.
        RuntimeError: what was exported is not what was trained, or a process died.

    """
    if policy := settings.on_policy:
        policy = policy.model_copy(update={"teacher": model_folder(policy.teacher)})
        settings = settings.model_copy(update={"on_policy": policy})
    student = model_folder(student)
    training = Training(
        examples=examples, settings=settings, student=student, template=template, folder=folder,
        seed=seed, name=name, grade=grade, stages=stages,
    )  # fmt: skip
    if settings.launch.gpus > 1:
        trained = run_together(partial(train_here, training), settings.launch, progress)
    else:
        trained = train_here(training, progress)
    assert trained is not None, "the first process returns it"
    return trained


def train_here(training: Training, progress: OnProgress) -> Trained | None:
    """Train in this process, and in the others of its group if it is in one. Only the first of them
    saves the student and returns.
    """
    begin = time.monotonic()
    setup = set_up(training)
    policy = setup.settings.on_policy

    def report(before: int, after: int, event: Progress) -> None:
        total = before + (event.total or 0) + after
        progress(dataclasses.replace(event, done=before + event.done, total=total))

    further = policy.steps if policy is not None else 0
    fitted = fit(training, setup, partial(report, 0, further))
    if fitted is None:
        return None
    model, distilled = fitted.model, None
    if policy is not None:
        model, distilled = _distil(training, setup, model, partial(report, fitted.steps, 0))
    exported = export(
        model,
        setup.tokenizer,
        setup.settings,
        student=training.student,
        folder=training.folder,
        samples=setup.heldout or setup.data.samples,
        ends=setup.rendered.endings,
    )
    metrics.sync(training.folder)
    rendered = setup.rendered
    refused = [f"left out: {line}" for line in rendered.refused.lines()]
    said = [fitted.epochs.why()] if fitted.epochs is not None else []
    said += [fitted.kept] if fitted.kept is not None else []
    notes = [
        *setup.notes, *describe(rendered.overlong), *refused, *said, *exported.findings,
        *fitted.conclusion.hints,
    ]  # fmt: skip
    return Trained(
        figures=_figures(setup, fitted, exported, distilled, round(time.monotonic() - begin, 1)),
        dropped=rendered.dropped,
        learnt=[sample.trace_id for sample in setup.data.samples],
        heldout=[sample.trace_id for sample in setup.heldout],
        notes=notes,
    )


def _distil(
    training: Training, setup: Setup, model: Any, progress: OnProgress
) -> tuple[Any, OnPolicyFigures]:
    # Saved, and the last checkpoint kept: after a kill from here on, the training on traces makes
    # no step again.
    saved = training.folder / "sft"
    model.save_pretrained(saved)
    release(model)
    if "wandb" in setup.settings.report_to:
        tracking.finish_wandb()
    job = Distillation(
        settings=setup.settings,
        student=training.student,
        trained=saved,
        tokenizer=setup.tokenizer,
        prompts=setup.prompts,
        endings=setup.rendered.endings,
        folder=training.folder,
        seed=training.seed,
        name=training.name,
    )
    return distil_on_policy(job, progress)


def _epochs(setup: Setup, fitted: Fitted) -> float:
    """How often each token was learnt from, on average."""
    if fitted.epochs is not None:
        return float(len(fitted.epochs.made))
    if setup.settings.stages:
        return round(setup.course.passes(setup.sizing.lengths), 4)
    return setup.settings.longest


def _figures(
    setup: Setup,
    fitted: Fitted,
    exported: ExportFigures,
    distilled: OnPolicyFigures | None,
    seconds: float,
) -> TrainingFigures:
    data, settings = setup.data, setup.settings
    tokens = sum(setup.sizing.lengths)
    return TrainingFigures(
        samples=len(data.samples),
        heldout_samples=len(setup.heldout),
        tokens=tokens,
        trained_tokens=sum(sample.learnt for sample in data.samples),
        epochs=_epochs(setup, fitted),
        ended=fitted.epochs.why() if fitted.epochs is not None else "",
        kept=fitted.kept or "",
        rank=int(settings.lora.rank) if settings.method == "lora" else None,
        rates=setup.sizing.rates,
        rows=len(data.rows),
        fill=round(tokens / (len(data.rows) * settings.max_length), 4) if settings.packing else 1.0,
        train_seconds=seconds,
        steps=fitted.steps,
        loss=fitted.loss,
        trainable_parameters=fitted.trainable_parameters,
        resumed_from_step=fitted.resumed_from_step,
        micro_batch=fitted.micro_batch.rows,
        out_of_memory_at=fitted.micro_batch.lowered,
        unlearnable=setup.rendered.refused.lines(),
        export=exported,
        hints=fitted.conclusion.hints,
        plan=fitted.conclusion.plan,
        predicted=fitted.conclusion.predicted,
        overlong=setup.rendered.overlong,
        on_policy=distilled,
    )
