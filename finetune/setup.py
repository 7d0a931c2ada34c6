"""Everything about a training that is settled before weights are loaded."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import monitor
from finetune.arguments import rate_of
from finetune.checkpoints import Identity
from finetune.curriculum import Course, lay_out
from finetune.prepare import prepare
from finetune.render import Rendered
from finetune.sample import REPLAYED, Example, Sample
from finetune.sizing import Sizing, size_up
from finetune.step import TrainingData
from finetune.teacher import check_teacher
from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.trackers import check_trackers
from tracestill.records import digest
from tracestill.records.content import model_fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The arguments of `finetune.train.train`, which every process of a training is handed."""

    examples: Sequence[Example]
    settings: FinetuneSection
    student: str
    template: Path
    folder: Path
    seed: int
    name: str
    grade: monitor.Grade | None
    stages: Sequence[Collection[str] | None] = ()
    """For each of `settings.stages` the ids of the traces that it learns, None for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A training's samples, their order, and its resolved settings.

    `settings` are the recipe's with `quantize`, the rate and the rank resolved, since the weights
    depend on them; the other `auto` settings are resolved in `sizing`. `asked` are the samples
    whose prompts the monitor asks, `prompts` the token ids that on-policy distillation samples
    from; both can be empty. `notes` are what the user should know of the template, and how rate and
    rank were chosen.
    """

    settings: FinetuneSection
    tokenizer: Any
    rendered: Rendered
    heldout: list[Sample]
    asked: list[Sample]
    prompts: list[list[int]]
    sizing: Sizing
    data: TrainingData
    course: Course
    identity: Identity
    notes: list[str]


def set_up(training: Training) -> Setup:
    """Prepare and pack the samples, resolve `auto`, and check all that can be checked by now.

    Raises:
        ValueError: the student, the template, the teacher or the samples can't be used; one line
            with the fix.

    """
    settings, student, examples = training.settings, training.student, training.examples
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    policy = settings.on_policy
    if Path(student).is_dir() and (policy is None or Path(policy.teacher).is_dir()):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    check_trackers(settings.report_to)
    prepared = prepare(examples, settings, student, training.template)
    rendered, tokenizer = prepared.rendered, prepared.tokenizer
    learnt, heldout = hold_out(rendered.samples, examples, settings.holdout)
    asked = monitor.choose(heldout, settings) if settings.monitor is not None else []
    if settings.keep == "best" and not heldout:
        raise ValueError(
            f"finetune.keep: best goes by held-out traces, but with finetune.holdout at "
            f"{settings.holdout:g} there is none among these: raise holdout, or leave keep out"
        )
    prompts: list[list[int]] = []
    if policy is not None:
        prompts = [sample.input_ids[: sample.prompt].tolist() for sample in learnt]
        check_teacher(
            prompts, settings, student=student, tokenizer=tokenizer, endings=rendered.endings
        )

    lengths = [len(sample.input_ids) for sample in learnt]
    share = sum(sample.learnt for sample in learnt) / sum(lengths)
    sizing = size_up(settings, prepared.config, lengths, share)
    on_device = sizing.settings
    # What the weights depend on; the rest changes only memory and speed.
    settings = settings.model_copy(
        update={
            "quantize": on_device.quantize, "lora": on_device.lora,
            "learning_rate": on_device.learning_rate,
        }
    )  # fmt: skip
    course = lay_out(
        [sample.trace_id for sample in learnt], lengths, settings, training.stages, training.seed,
        rate_of(settings),
    )  # fmt: skip
    if settings.stages:
        sizing.go_through(course.passes(lengths))
    data = TrainingData(samples=learnt, rows=course.rows, steps=course.steps)
    return Setup(
        settings=settings,
        tokenizer=tokenizer,
        rendered=rendered,
        heldout=heldout,
        asked=asked,
        prompts=prompts,
        sizing=sizing,
        data=data,
        course=course,
        identity=_identity(training, settings, rendered, data, tokenizer),
        notes=[*prepared.notes, *sizing.rates],
    )


def hold_out(
    samples: Sequence[Sample], examples: Sequence[Example], share: float
) -> tuple[list[Sample], list[Sample]]:
    """The samples to train on, and those of the held-out `share` of problems. These are chosen by a
    hash of the prompt, whatever other traces there are; if that would take all, none is held out.
    """
    bound = int(share * 2**32)
    held = {
        one.trace_id
        for one in examples
        if one.source != REPLAYED and int(digest("heldout", one.prompt)[:8], 16) < bound
    }
    learnt = [sample for sample in samples if sample.trace_id not in held]
    if not learnt:
        return list(samples), []
    return learnt, [sample for sample in samples if sample.trace_id in held]


def _identity(
    training: Training, settings: FinetuneSection, rendered: Rendered, data: TrainingData,
    tokenizer: Any,
) -> Identity:  # fmt: skip
    # `launch` stays in, though the weights do not depend on it: a checkpoint has each process's
    # random numbers, and its files are sharded or whole.
    others = settings.neutral - {"launch"} | settings.unused
    left_out: dict[str, Any] = dict.fromkeys(
        {"student", "template", "on_policy", "replay"} | others, True
    )
    # Keys that came later: checkpoints of before stay good.
    later: tuple[tuple[str, Any], ...] = (
        ("loss", "nll"),
        ("keep", "last"),
        ("stages", []),
    )
    left_out |= {name: True for name, value in later if getattr(settings, name) == value}
    # What a stage selects and what is replayed is part of the data and their packing.
    values = settings.model_dump(exclude={"stages": {"__all__": {"select"}}} | left_out)
    values["schedule"] = settings.known_schedule
    if settings.unlearnable == "auto":  # the traces themselves are part of the data
        values["unlearnable"] = "error"
    return {
        "data": digest(
            [[s.trace_id, s.prompt, digest(s.input_ids.tobytes().hex())] for s in data.samples]
        ),
        "packing": digest(data.rows, data.steps),
        "template": digest(tokenizer.chat_template, rendered.contract.model_dump()),
        "tokenizer": digest(sorted(tokenizer.get_vocab().items())),
        "student": model_fingerprint(training.student, settings.revision),
        "settings": {**values, "seed": training.seed},
    }
