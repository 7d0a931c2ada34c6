"""Train a student on kept traces: rendered once, packed exactly, resumable at any moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import checkpoints, group, metrics, monitor, sharding, tracking
from finetune.arguments import training_arguments
from finetune.checkpoints import Identity, content, step_of
from finetune.config import NEUTRAL, FinetuneSection
from finetune.contract import Contract
from finetune.export import export
from finetune.launch import Training, train_together
from finetune.merge import release
from finetune.model import add_adapter, load_student
from finetune.on_policy import distil_on_policy
from finetune.packing import Row, pack, steps
from finetune.prepare import prepare
from finetune.render import Example, Rendered, Sample, pad_id
from finetune.selftest import at_start, check_packing
from finetune.sizing import Sizing, size_up
from finetune.teacher import check_teacher
from finetune.trainer import Micro, Work, make_trainer, peak_memory
from tracestill.records import digest, file_fingerprint

if TYPE_CHECKING:
    from finetune.packing import Layout

Progress = Callable[[dict[str, Any]], None]


def train(
    examples: Sequence[Example],
    settings: FinetuneSection,
    *,
    student: str,
    template: Path,
    folder: Path,
    seed: int,
    progress: Progress,
    name: str = "tracestill",
    judge: monitor.Judge | None = None,
) -> dict[str, Any]:
    """Fine-tune a student and save it in `folder`: `merged/`, `adapter/`, `metrics.jsonl`.

    A run that was killed goes on from its last whole checkpoint in `folder`, and ends in the same
    weights. The checkpoints are the caller's to `forget`, once what was made is declared complete.
    Trackers know it by `name`. `judge` says which of the monitor's answers are right; with several
    processes it must be picklable.

    Returns:
        Figures for the manifest, and under "dropped" how many examples were left out for which
        reason.

    Raises:
        ValueError: the student, the template or the samples can't be used, or `folder` holds the
            checkpoints of another training; one line with the fix.
        MemoryError: not even one row fits; the line says what takes the memory.

    """
    training = Training(
        examples=examples, settings=settings, student=student, template=template, folder=folder,
        seed=seed, name=name, judge=judge,
    )  # fmt: skip
    if settings.launch.gpus > 1:
        return train_together(training, progress)
    return train_here(training, progress)


def train_here(training: Training, progress: Progress) -> dict[str, Any]:
    """Train in this process, and in the others of its group, if it is in one. Only the first of
    them saves the student and returns figures.
    """
    begin = time.monotonic()
    made = _prepare(training)
    folder, work = training.folder, made.work
    asked = made.settings.on_policy
    first, then = len(work.steps), asked.steps if asked is not None else 0
    trained, figures = _learn(
        training, made, lambda event: progress({**event, "total": first + then})
    )
    if trained is None:
        return {}
    if asked is not None:
        # With the last checkpoint of this training still there, a kill from here on leads back to
        # this place without a step made again.
        trained.save_pretrained(folder / "sft")
        release(trained)
        if "wandb" in made.settings.report_to:
            tracking.finish_wandb()
        trained, figures["on_policy"] = distil_on_policy(
            made.prompts,
            made.settings,
            student=training.student,
            trained=folder / "sft",
            tokenizer=made.tokenizer,
            stops=made.rendered.endings,
            folder=folder,
            seed=training.seed,
            progress=lambda event: progress(
                {**event, "done": first + event["done"], "total": first + then}
            ),
            name=training.name,
        )
    exported = export(
        trained,
        made.tokenizer,
        made.settings,
        student=training.student,
        folder=folder,
        samples=made.heldout or work.samples,
        ends=made.rendered.endings,
    )
    exported["findings"] += figures.pop("hints")
    tokens = sum(made.sizing.lengths)
    room = len(work.rows) * made.settings.max_length
    return {
        "samples": len(work.samples),
        "heldout_samples": len(made.heldout),
        "tokens": tokens,
        "trained_tokens": _learnt_tokens(work.samples),
        "epochs": made.settings.epochs,
        "rows": len(work.rows),
        "fill": round(tokens / room, 4) if made.settings.packing else 1.0,
        "train_seconds": round(time.monotonic() - begin, 1),
        "overlong": made.rendered.overlong.details(),
        "unlearnable": made.rendered.refused.lines(),
        "dropped": made.rendered.dropped,
        **figures,
        **exported,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """What is settled before a model is loaded. `settings` are the recipe's, but for `quantize`,
    which is not `auto` any more: what is learnt depends on it. `tried` are the monitor's, `prompts`
    those of on-policy distillation, where there is one.
    """

    settings: FinetuneSection
    tokenizer: Any
    contract: Contract
    rendered: Rendered
    heldout: list[Sample]
    tried: list[Sample]
    prompts: list[list[int]]
    sizing: Sizing
    work: Work
    identity: Identity


def _prepare(training: Training) -> _Prepared:
    settings, student, examples = training.settings, training.student, training.examples
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    asked = settings.on_policy
    if Path(student).is_dir() and (asked is None or Path(asked.teacher).is_dir()):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    tracking.check_trackers(settings.report_to)
    checked = prepare(examples, settings, student, training.template)
    rendered, tokenizer, contract = checked.rendered, checked.tokenizer, checked.contract
    learnt, heldout = _split(rendered.samples, examples, settings.holdout)
    tried = monitor.choose(heldout, settings) if settings.monitor is not None else []
    prompts: list[list[int]] = []
    if asked is not None:
        prompts = [sample.input_ids[: sample.prompt].tolist() for sample in learnt]
        check_teacher(
            prompts, settings, student=student, tokenizer=tokenizer, stops=rendered.endings
        )

    lengths = [len(sample.input_ids) for sample in learnt]
    sizing = size_up(settings, checked.config, lengths)
    settings = settings.model_copy(update={"quantize": sizing.settings.quantize})
    alone: list[Row] = [[index] for index in range(len(learnt))]
    rows = pack(lengths, settings.max_length) if settings.packing else alone
    work = Work(
        samples=learnt,
        rows=rows,
        steps=steps(rows, settings.batch_size, settings.epochs, training.seed),
        operations=sizing.operations,
    )
    return _Prepared(
        settings=settings,
        tokenizer=tokenizer,
        contract=contract,
        rendered=rendered,
        heldout=heldout,
        tried=tried,
        prompts=prompts,
        sizing=sizing,
        work=work,
        identity=_identity(training, settings, contract, work, tokenizer),
    )


def _learn(training: Training, made: _Prepared, progress: Progress) -> tuple[Any, dict[str, Any]]:
    """The trained model, its optimiser given up, and figures of the training; nothing in processes
    but the first.
    """
    import torch
    from transformers import PrinterCallback, set_seed

    folder, work, sizing = training.folder, made.work, made.sizing
    folder.mkdir(parents=True, exist_ok=True)
    checkpointed = folder / "checkpoints"
    with group.first_before_others():
        resumed = checkpoints.last_checkpoint(checkpointed, made.identity, len(work.steps))
    if group.is_first():
        for file in (metrics.METRICS, metrics.HELDOUT, monitor.MONITOR):
            metrics.trim(folder / file, step_of(resumed))
    set_seed(training.seed)
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // group.world()))

    longest = max(sizing.lengths)
    with sizing.explain():
        loaded = load_student(training.student, sizing.settings, longest)
        model = add_adapter(loaded.model, sizing.settings)
        sizing.calibrate(model, loaded.layout, folder, resumed is not None)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # what is compared with the plan is the training's
    settings = sizing.settings
    micro = Micro(rows=int(settings.micro_batch), explain=sizing.out_of_memory)
    if "wandb" in settings.report_to:
        tracking.settle_wandb(training.name, folder)
    arguments = training_arguments(
        settings, checkpointed, len(work.steps), training.seed, training.name
    )
    trainer = make_trainer(model, arguments, made.tokenizer, work, loaded.layout, micro)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    _add_callbacks(trainer, training, made, loaded.layout, resumed, progress)
    trainer.remove_callback(PrinterCallback)
    result = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)

    trained: Any = trainer.model
    weights = sharding.gather(trainer, settings) if settings.launch.sharded else None
    # Memory that export and distillation need.
    trainer.accelerator.free_memory()
    trainer.optimizer = trainer.lr_scheduler = None
    if not group.leave():
        return None, {}
    if weights is not None:
        trained = sharding.whole(weights, settings, training.student, longest)
    seen = metrics.read(folder / metrics.METRICS)
    measured = {"tokens_per_second": metrics.tokens_per_second(seen)}
    if torch.cuda.is_available():
        measured["memory_bytes"] = float(peak_memory())
    return trained, {
        "steps": result.global_step,
        "loss": seen[-1]["loss"] if seen else None,
        "trainable_parameters": trainable,
        "resumed_from_step": step_of(resumed),
        "micro_batch": micro.rows,
        "out_of_memory_at": micro.lowered,
        **sizing.conclude(measured, _learnt_tokens(work.samples), folder),
    }


def _add_callbacks(
    trainer: Any,
    training: Training,
    made: _Prepared,
    layout: Layout,
    resumed: Path | None,
    progress: Progress,
) -> None:
    """What is looked at, written and told while the student learns."""
    settings, work, tokenizer = made.settings, made.work, made.tokenizer
    pad = pad_id(tokenizer)
    if settings.packing:
        trainer.add_callback(
            at_start(lambda: check_packing(trainer.model, work.samples, layout, pad))
        )
    if "tensorboard" in settings.report_to:
        tracking.add_tensorboard(trainer, training.folder / "tensorboard", step_of(resumed))

    def look() -> dict[str, Any]:
        return metrics.heldout_loss(trainer.model, made.heldout, layout, pad, trainer.args.device)

    trainer.add_callback(
        metrics.make_reporter(
            training.folder,
            made.identity,
            progress,
            -(-len(work.rows) // settings.batch_size),
            look if made.heldout else None,
            settings.checkpoint_every,
            trainer.log,
        )
    )
    if made.tried:
        ends = made.rendered.endings
        trainer.add_callback(
            monitor.make_monitor(
                trainer, made.tried, tokenizer, made.contract, ends, settings, training.folder,
                training.judge,
            )
        )  # fmt: skip


def _learnt_tokens(samples: Sequence[Sample]) -> int:
    return sum(len(sample.input_ids) - sample.prompt for sample in samples)


def _split(
    samples: Sequence[Sample], examples: Sequence[Example], part: float
) -> tuple[list[Sample], list[Sample]]:
    """The samples that are learnt, and those of the problems that are held out: chosen by the hash
    of what is asked, so that other traces change nothing about it.
    """
    asked = {example.trace_id: example.prompt for example in examples}
    bound = int(part * 2**32)
    held = {
        trace for trace, prompt in asked.items() if int(digest("heldout", prompt)[:8], 16) < bound
    }
    learnt = [sample for sample in samples if sample.trace_id not in held]
    if not learnt:
        return list(samples), []
    return learnt, [sample for sample in samples if sample.trace_id in held]


def _identity(
    training: Training, settings: FinetuneSection, contract: Contract, work: Work, tokenizer: Any
) -> Identity:
    """What decides which weights a training ends in."""
    values = settings.model_dump(exclude={"student", "template", "on_policy", *NEUTRAL})
    return {
        "data": digest(
            [[s.trace_id, s.prompt, digest(s.input_ids.tobytes().hex())] for s in work.samples]
        ),
        "packing": digest(work.rows, work.steps),
        "template": digest(file_fingerprint(training.template), contract.model_dump()),
        "tokenizer": digest(sorted(tokenizer.get_vocab().items())),
        "student": content(training.student),
        "settings": {**values, "seed": training.seed},
    }
