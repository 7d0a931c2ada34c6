"""On-policy distillation: the trained student samples, and learns the teacher's distribution on its
own samples, mistakes included (Agarwal et al., 2024, arXiv:2306.13649).
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from finetune import checkpoints, metrics, tracking
from finetune.arguments import common, on_one_device
from finetune.checkpoints import Identity, step_of
from finetune.student import keeping_float32, load_student
from finetune.teacher import check_teacher, load_teacher, policy_of
from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.on_policy import OnPolicy
from tracestill.records import OnProgress, digest, folder_fingerprint
from tracestill.records.content import model_fingerprint
from tracestill.records.figures import OnPolicyFigures

CHECKPOINTS = "on_policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """An on-policy distillation, on a student that was trained on traces.

    `settings.on_policy` is set. `student` is the base model, `trained` the folder with what the
    training on traces saved: the adapter, or with `method: full` the model. `prompts` are token
    ids, each ending where the student's own tokens begin; `endings` the ids that end a sample, the
    trained stop token's first. Checkpoints and metrics go to `folder`; `seed` decides the order of
    prompts and the sampling; trackers know the whole training by `name`.
    """

    settings: FinetuneSection
    student: str
    trained: Path
    tokenizer: Any
    prompts: list[list[int]]
    endings: Sequence[int]
    folder: Path
    seed: int
    name: str = "tracestill"

    @property
    def policy(self) -> OnPolicy:
        """The recipe's section `on_policy`."""
        return policy_of(self.settings)


def distil_on_policy(job: Distillation, progress: OnProgress) -> tuple[Any, OnPolicyFigures]:
    """Distil the teacher of `job` into its student; returns the student and figures.

    Equal prompts count once. The figures of each step go to `on_policy_metrics.jsonl`. A run that
    was killed resumes from its last whole checkpoint, and ends in the same weights. `progress` is
    told of each optimiser step.

    Raises:
        ValueError: as `check_teacher`, or the folder holds checkpoints of another training.

    """
    from transformers import PrinterCallback

    begin = time.monotonic()
    unique = dict.fromkeys(tuple(map(int, ids)) for ids in job.prompts)
    job = dataclasses.replace(job, prompts=[list(ids) for ids in unique])
    check_teacher(
        job.prompts, job.settings, student=job.student, tokenizer=job.tokenizer,
        endings=job.endings,
    )  # fmt: skip
    steps, path, identity = job.policy.steps, job.folder / metrics.ON_POLICY, _identity(job)
    resumed = checkpoints.last_checkpoint(job.folder / CHECKPOINTS, identity, steps)
    metrics.trim(path, step_of(resumed))

    model = _load_trained(job)
    trainer = _make_trainer(model, job)
    if "tensorboard" in job.settings.report_to:
        events = job.folder / "tensorboard" / "on_policy"
        tracking.add_tensorboard(trainer, events, step_of(resumed))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(metrics.make_reporter(path, identity, progress))
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)

    rows = metrics.read(path)
    tenth = max(1, len(rows) // 10)
    return model, OnPolicyFigures(
        steps=steps,
        prompts=len(job.prompts),
        sampled_tokens=sum(row["tokens"] for row in rows),
        first_loss=round(_mean(rows[:tenth], "loss"), 5),
        last_loss=round(_mean(rows[-tenth:], "loss"), 5),
        ended_share=round(_mean(rows[-tenth:], "ended_share"), 4),
        resumed_from_step=step_of(resumed),
        seconds=round(time.monotonic() - begin, 1),
    )


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    return float(sum(row[name] for row in rows) / len(rows))


def _load_trained(job: Distillation) -> Any:
    # Sampling needs a cache and padding, which attention over packed rows does not have.
    padded = job.settings.model_copy(update={"attention": "sdpa"})
    if padded.method == "full":
        local = padded.model_copy(update={"revision": None})
        return load_student(str(job.trained), local, 1).model
    from peft import PeftModel

    base = load_student(job.student, padded, 1).model
    return PeftModel.from_pretrained(base, job.trained, is_trainable=True)


def _make_trainer(model: Any, job: Distillation) -> Any:
    """Trl's `DistillationTrainer` over token ids, in an order settled before it starts."""
    import datasets

    # trl reads what ends a sample, and the padding, from tokenizer and generation_config.
    ending = copy.deepcopy(job.tokenizer)
    ending.eos_token = job.tokenizer.convert_ids_to_tokens(job.endings[0])
    model.generation_config.eos_token_id = list(job.endings)
    order = _order(len(job.prompts), job.policy.steps * job.policy.prompts, job.seed)
    ordered = [job.prompts[index] for index in order]
    teacher = load_teacher(job.settings, model.config.get_text_config().vocab_size)
    with keeping_float32(model):
        return _trainer_class(job.endings)(
            model=model,
            teacher_model=teacher,
            args=_arguments(job),
            train_dataset=datasets.Dataset.from_dict({"prompt": ordered}),
            processing_class=ending,
        )


def _trainer_class(endings: Sequence[int]) -> Any:
    from trl import DistillationTrainer

    meter = _SampleMeter()

    class OnPolicyTrainer(DistillationTrainer):  # type: ignore[misc]
        def _tokenize_prompts(self, prompts: list[list[int]]) -> Any:
            return prompts, None, {}  # they are ids already, those of the training on traces

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            # The student samples as it is used: without dropout.
            self.model.eval()
            begin = time.monotonic()
            samples = super()._generate_single_turn(*args, **kwargs)
            meter.samples += samples
            meter.seconds += time.monotonic() - begin
            self.model.train()
            return samples

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                logs.update(meter.take(endings))
            super().log(logs, start_time)

    return OnPolicyTrainer


def _order(prompts: int, count: int, seed: int) -> list[int]:
    """The prompt of each turn: all prompts shuffled, then again shuffled anew."""
    rng = Random(seed)
    order: list[int] = []
    while len(order) < count:
        order += rng.sample(range(prompts), prompts)
    return order[:count]


def _arguments(job: Distillation) -> Any:
    import torch
    from trl import DistillationConfig

    settings, policy = job.settings, job.policy
    on_gpu = torch.cuda.is_available()
    most = settings.micro_batch
    if most == "auto":
        most = 1 if on_gpu else policy.prompts
    sizes = range(1, min(most, policy.prompts) + 1)
    micro = max(size for size in sizes if policy.prompts % size == 0)
    rate = policy.learning_rate
    if rate == "auto":
        rate = 1e-4 if settings.method == "lora" else 1e-5
    recompute = settings.gradient_checkpointing
    made = DistillationConfig(
        learning_rate=rate,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=policy.prompts // micro,
        gradient_checkpointing=on_gpu if recompute == "auto" else recompute,
        beta=policy.beta,
        temperature=policy.temperature,
        max_completion_length=policy.max_tokens,
        generation_kwargs={"use_cache": True},
        shuffle_dataset=False,
        save_total_limit=2,
        **common(settings, job.folder / CHECKPOINTS, policy.steps, job.seed),
        **tracking.options(settings.report_to, job.name, f"{job.name}-on-policy"),
    )
    on_one_device(made)
    return made


@dataclass(slots=True)
class _SampleMeter:
    """Counts what the student samples; `take` returns the figures and starts anew."""

    samples: list[Sequence[int]] = field(default_factory=list)
    seconds: float = 0.0

    def take(self, endings: Sequence[int]) -> dict[str, float]:
        tokens = sum(map(len, self.samples))
        found = {
            "tokens": tokens,
            "mean_tokens": tokens / len(self.samples),
            "ended_share": sum(ids[-1] in endings for ids in self.samples) / len(self.samples),
            "sampled_per_second": tokens / self.seconds,
        }
        self.samples, self.seconds = [], 0.0
        return found


def _identity(job: Distillation) -> Identity:
    settings, policy = job.settings, job.policy
    learning = {
        "method", "lora", "quantize", "dtype", "warmup", "weight_decay", "max_grad_norm",
    }  # fmt: skip
    return {
        "data": digest(job.prompts),
        "student": model_fingerprint(job.student, settings.revision),
        # The weights alone: the files that describe them differ from one save to the next.
        "trained student": folder_fingerprint(job.trained, skip=(".md", ".json")),
        "teacher": model_fingerprint(policy.teacher, policy.revision),
        "tokenizer": digest(sorted(job.tokenizer.get_vocab().items()), list(job.endings)),
        "settings": {
            **settings.model_dump(include=learning),
            "schedule": settings.known_schedule,
            "on_policy": policy.model_dump(exclude={"teacher"}),
            "seed": job.seed,
        },
    }
