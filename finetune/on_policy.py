"""On-policy distillation: the trained student samples, and learns the teacher's distribution on
what it sampled itself, mistakes included (Agarwal and others, 2024, arXiv:2306.13649).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from finetune import checkpoints, metrics, tracking
from finetune.arguments import common, on_one_device
from finetune.checkpoints import Identity, content, step_of
from finetune.config import FinetuneSection
from finetune.model import keeping_float32, load_student
from finetune.teacher import Prompts, asked_for, check_teacher, load_teacher
from tracestill.records import digest, folder_fingerprint

Progress = Callable[[dict[str, Any]], None]
METRICS = "on_policy_metrics.jsonl"
CHECKPOINTS = "on_policy"
_LOGGED = ("loss", "learning_rate", "grad_norm", "entropy")


def distil_on_policy(
    prompts: Prompts,
    settings: FinetuneSection,
    *,
    student: str,
    trained: Path,
    tokenizer: Any,
    stops: Sequence[int],
    folder: Path,
    seed: int,
    progress: Progress,
    name: str = "tracestill",
) -> tuple[Any, dict[str, Any]]:
    """Go on with a student that was trained on traces, and return it with its figures.

    A run that was killed goes on from its last whole checkpoint in `folder`, and ends in the same
    weights. The figures of each step are in `on_policy_metrics.jsonl` there.

    Args:
        prompts: token ids of what is asked, each ending where the student's own tokens begin, as
            in its training. Doubles count once.
        settings: `settings.on_policy` is given.
        student: the base model, a folder or a hub id.
        trained: what was saved of the training on traces: the adapter, or with `method: full` the
            whole model.
        tokenizer: the student's.
        stops: the ids that end a sample; the first is the one that was trained.
        folder: where checkpoints and metrics go.
        seed: of the order of prompts and of sampling.
        progress: told `done`, `total` and `loss` after each optimiser step.
        name: by which trackers know the whole training.

    Raises:
        ValueError: as `check_teacher`, or `folder` holds checkpoints of another training.

    """
    from transformers import PrinterCallback

    begin = time.monotonic()
    asked = asked_for(settings)
    prompts = [list(ids) for ids in dict.fromkeys(tuple(map(int, ids)) for ids in prompts)]
    check_teacher(prompts, settings, student=student, tokenizer=tokenizer, stops=stops)
    identity = _identity(prompts, settings, student, trained, tokenizer, stops, seed)
    resumed = checkpoints.last_checkpoint(folder / CHECKPOINTS, identity, asked.steps)
    metrics.trim(folder / METRICS, step_of(resumed))

    model = _load_trained(settings, student, trained)
    teacher = load_teacher(settings, model.config.get_text_config().vocab_size)
    trainer = _make_trainer(model, teacher, tokenizer, stops, prompts, settings, folder, seed, name)
    if "tensorboard" in settings.report_to:
        tracking.add_tensorboard(trainer, folder / "tensorboard" / "on_policy", step_of(resumed))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_reporter(folder, identity, progress))
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)

    rows = metrics.read(folder / METRICS)
    part = rows[: max(1, len(rows) // 10)], rows[-max(1, len(rows) // 10) :]
    return model, {
        "steps": asked.steps,
        "prompts": len(prompts),
        "sampled_tokens": sum(row["tokens"] for row in rows),
        "first_loss": round(sum(row["loss"] for row in part[0]) / len(part[0]), 5),
        "last_loss": round(sum(row["loss"] for row in part[1]) / len(part[1]), 5),
        "ended_share": round(sum(row["ended_share"] for row in part[1]) / len(part[1]), 4),
        "resumed_from_step": step_of(resumed),
        "seconds": round(time.monotonic() - begin, 1),
    }


def _load_trained(settings: FinetuneSection, student: str, trained: Path) -> Any:
    # Sampling needs a cache and rows with padding, which attention over packed rows has not.
    padded = settings.model_copy(update={"attention": "sdpa"})
    if settings.method == "full":
        whole = padded.model_copy(update={"revision": None})
        return load_student(str(trained), whole, 1).model
    from peft import PeftModel

    base = load_student(student, padded, 1).model
    return PeftModel.from_pretrained(base, trained, is_trainable=True)


def _make_trainer(
    model: Any,
    teacher: Any,
    tokenizer: Any,
    stops: Sequence[int],
    prompts: Prompts,
    settings: FinetuneSection,
    folder: Path,
    seed: int,
    name: str,
) -> Any:
    """The `DistillationTrainer` of trl over token ids, in an order laid down before it begins."""
    import datasets
    from trl import DistillationTrainer

    asked = asked_for(settings)
    # trl reads what ends a sample, and what fills rows up, from tokenizer and generation_config.
    ending = copy.deepcopy(tokenizer)
    ending.eos_token = tokenizer.convert_ids_to_tokens(stops[0])
    model.generation_config.eos_token_id = list(stops)
    figures = _Figures()

    class OnPolicyTrainer(DistillationTrainer):  # type: ignore[misc]
        def _tokenize_prompts(self, prompts: list[list[int]]) -> Any:
            return prompts, None, {}  # they are ids already, those of the training on traces

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            # The student samples as it is used: without dropout.
            self.model.eval()
            begin = time.monotonic()
            samples = super()._generate_single_turn(*args, **kwargs)
            figures.add(samples, stops, time.monotonic() - begin)
            self.model.train()
            return samples

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                logs.update(figures.take())
            super().log(logs, start_time)

    order = _order(len(prompts), asked.steps * asked.prompts, seed)
    asked_in_order = [prompts[index] for index in order]
    with keeping_float32(model):
        return OnPolicyTrainer(
            model=model,
            teacher_model=teacher,
            args=_arguments(settings, folder / CHECKPOINTS, seed, name),
            train_dataset=datasets.Dataset.from_dict({"prompt": asked_in_order}),
            processing_class=ending,
        )


def _order(prompts: int, count: int, seed: int) -> list[int]:
    """Which prompt is whose turn: all of them in a shuffled order, then again in another. Once the
    whole order is laid down, resuming is to begin at a later place.
    """
    rng = Random(seed)
    order: list[int] = []
    while len(order) < count:
        order += rng.sample(range(prompts), prompts)
    return order[:count]


def _arguments(settings: FinetuneSection, folder: Path, seed: int, name: str) -> Any:
    import torch
    from trl import DistillationConfig

    asked = asked_for(settings)
    on_gpu = torch.cuda.is_available()
    most = settings.micro_batch
    if most == "auto":
        most = 1 if on_gpu else asked.prompts
    sizes = range(1, min(most, asked.prompts) + 1)
    micro = max(size for size in sizes if asked.prompts % size == 0)
    rate = asked.learning_rate
    if rate == "auto":
        rate = 1e-4 if settings.method == "lora" else 1e-5
    recompute = settings.gradient_checkpointing
    made = DistillationConfig(
        learning_rate=rate,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=asked.prompts // micro,
        gradient_checkpointing=on_gpu if recompute == "auto" else recompute,
        beta=asked.beta,
        temperature=asked.temperature,
        max_completion_length=asked.max_tokens,
        generation_kwargs={"use_cache": True},
        shuffle_dataset=False,
        **common(settings, folder, asked.steps, seed),
        **tracking.options(settings.report_to, name, f"{name}-on-policy"),
    )
    on_one_device(made)
    return made


@dataclass(slots=True)
class _Figures:
    """What the student sampled for an optimiser step."""

    samples: int = 0
    tokens: int = 0
    ended: int = 0
    seconds: float = 0.0

    def add(self, samples: Sequence[Sequence[int]], stops: Sequence[int], seconds: float) -> None:
        self.samples += len(samples)
        self.tokens += sum(map(len, samples))
        self.ended += sum(ids[-1] in stops for ids in samples)
        self.seconds += seconds

    def take(self) -> dict[str, float]:
        found = {
            "tokens": self.tokens,
            "mean_tokens": self.tokens / self.samples,
            "ended_share": self.ended / self.samples,
            "sampled_per_second": self.tokens / self.seconds,
        }
        self.samples = self.tokens = self.ended = 0
        self.seconds = 0.0
        return found


def _reporter(folder: Path, identity: Identity, progress: Progress) -> Any:
    """A callback that writes each step's figures, and says when a checkpoint is whole."""
    from transformers import TrainerCallback

    begin = time.monotonic()
    sampled = ("tokens", "mean_tokens", "ended_share", "sampled_per_second")

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            row = {
                "step": state.global_step,
                **{name: logs[name] for name in (*_LOGGED, *sampled)},
                "seconds": round(time.monotonic() - begin, 3),
            }
            metrics.append(folder / METRICS, row)
            progress({"done": state.global_step, "total": state.max_steps, "loss": row["loss"]})

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            checkpoints.declare_complete(path, identity)

    return Reporter()


def _identity(
    prompts: Prompts,
    settings: FinetuneSection,
    student: str,
    trained: Path,
    tokenizer: Any,
    stops: Sequence[int],
    seed: int,
) -> Identity:
    """What decides which weights it ends in."""
    asked = asked_for(settings)
    learning = (
        "method", "lora", "quantize", "dtype", "schedule", "warmup", "weight_decay",
        "max_grad_norm",
    )  # fmt: skip
    return {
        "data": digest(prompts),
        "student": content(student),
        # Its weights alone: what describes them is not written the same way each time.
        "trained student": folder_fingerprint(trained, skip=(".md", ".json")),
        "teacher": content(asked.teacher),
        "tokenizer": digest(sorted(tokenizer.get_vocab().items()), list(stops)),
        "settings": {
            **{name: value for name, value in settings.model_dump().items() if name in learning},
            # What the samples are drawn from and how: the batch that is sampled at once included.
            "on_policy": asked.model_dump(exclude={"teacher"}),
            "seed": seed,
        },
    }
