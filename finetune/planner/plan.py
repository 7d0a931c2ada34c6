"""Whether a training fits a device, what takes the memory, how long it lasts, what to change."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from finetune.config import FinetuneSection
from finetune.planner.calibration import Calibration
from finetune.planner.choose import Change, changes, settle, size
from finetune.planner.devices import Device
from finetune.planner.memory import Memory, trainable
from finetune.planner.options import Job, kept, load, needs, own_rows, seconds_per_token
from finetune.planner.shape import Shape
from finetune.planner.speed import flops_per_token

NAMES = {
    "weights": "weights",
    "adapter": "adapter",
    "optimiser": "optimiser",
    "gradients": "gradients",
    "activations": "activations",
    "logits": "logits and loss",
    "overhead": "CUDA and its allocator",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A training of `job` with `settings`, in which no `auto` is left that memory depends on.

    `memory` is each device's at its peak, `limit` what may be used. `trained` weights of
    `job.shape.parameters` are learnt. `tokens` are those of all epochs, 0 if the samples are not
    known; `tokens_per_second` are of all devices; both it and `hours` are None where they can't be
    told. `why` has a line for each setting that was `auto`; `changes` is empty where it fits.
    """

    job: Job
    settings: FinetuneSection
    why: list[str]
    memory: Memory
    limit: int
    trained: int
    row_tokens: int
    micro_batches: int
    tokens: int
    tokens_per_second: float | None
    hours: float | None
    mfu: float | None
    changes: list[Change]

    @property
    def fits(self) -> bool:
        """Whether memory is enough."""
        return self.memory.total <= self.limit


def plan(
    settings: FinetuneSection,
    shape: Shape,
    device: Device,
    lengths: Sequence[int] = (),
    calibration: Calibration | None = None,
) -> Plan:
    """Plan a training on samples of `lengths` tokens, or, where they are not known yet, on rows
    that are full.

    Raises:
        ValueError: the adapter's targets name no layer, or every sample is longer than a row.

    """
    job = Job(shape=shape, device=device, lengths=lengths, calibration=calibration)
    if not kept(job, settings):
        raise ValueError(
            f"every sample is longer than finetune.max_length ({settings.max_length} tokens); the "
            f"shortest has {min(lengths)}"
        )
    settled, why = settle(job, settings)
    if settled.lora.dora and settled.method == "lora":
        why = [*why, "lora.dora: true takes more than is said here, about a sixth of all"]
    taken = needs(job, settled)
    each = seconds_per_token(job, settled)
    tokens = round(sum(kept(job, settled)) * settled.epochs) if lengths else 0
    rows = min(int(settled.micro_batch), own_rows(job, settled))
    mfu = None
    if each is not None and device.flops:
        operations = flops_per_token(shape, settled, kept(job, settled))
        mfu = operations / each / (device.flops * settled.launch.gpus)
    return Plan(
        job=job,
        settings=settled,
        why=why,
        memory=taken,
        limit=job.limit,
        trained=trainable(shape, settled),
        row_tokens=load(job, settled, 1).tokens,
        micro_batches=-(-own_rows(job, settled) // rows),
        tokens=tokens,
        tokens_per_second=1 / each if each else None,
        hours=tokens * each / 3600 if each and tokens else None,
        mfu=mfu,
        changes=changes(job, settled, job.limit) if taken.total > job.limit else [],
    )


def explain_oom(plan: Plan, error: BaseException, micro_batch: int) -> str:
    """One line: what took the memory when `micro_batch` rows did not fit, and what to change."""
    settings = plan.settings.model_copy(update={"micro_batch": micro_batch})
    taken = needs(plan.job, settings)
    parts = sorted(
        ((getattr(taken, field.name), field.name) for field in fields(taken)), reverse=True
    )
    shown = ", ".join(f"{NAMES[name]} {size(amount)}" for amount, name in parts[:3])
    wanted = re.search(r"[Tt]ried to allocate ([\d.]+ [KMG]i?B)", str(error))
    asked = f" when {wanted[1]} more were asked for" if wanted else ""
    tokens = load(plan.job, settings, micro_batch).tokens
    line = (
        f"out of memory{asked}: {micro_batch} row{'s' * (micro_batch > 1)} ({tokens:,} tokens) "
        f"on {plan.job.device.name} of {size(plan.job.device.memory)}; predicted: {shown}"
    )
    # It did not fit, whatever was predicted: what is to help must take clearly less.
    limit = min(plan.limit, int(taken.total * 0.95))
    found = changes(plan.job, settings, limit)
    if not found:
        return f"{line}; no change makes it fit: take a smaller student or a larger device"
    return f"{line}; set {found[0].text} ({_lasts(found[0])})"


def _lasts(change: Change) -> str:
    dropped = f", {change.dropped:,} samples are too long for it" if change.dropped else ""
    return f"{size(change.memory)}, {change.times:.2f} times as long{dropped}"


def compare(plan: Plan, measured: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Predicted against actual.

    Args:
        plan: of the run.
        measured: `memory_bytes`, the most that was allocated, and `tokens_per_second`, where they
            were measured.

    Returns:
        For each of them what was predicted, what was measured, and the difference as a part of
        what was measured.

    """
    predicted: dict[str, float | None] = {
        "memory_bytes": float(plan.memory.allocated),
        "tokens_per_second": plan.tokens_per_second,
    }
    found = {}
    for name, said in predicted.items():
        actual = measured.get(name)
        if said is not None and actual:
            found[name] = {
                "predicted": round(said, 1),
                "actual": round(float(actual), 1),
                "difference": round(said / actual - 1, 4),
            }
    return found


def hints(settings: FinetuneSection, trained: int, learnt: int) -> list[str]:
    """What to know of a training, in a line each: `trained` weights learn `learnt` tokens.

    An adapter keeps up with full fine-tuning while it has as many weights as there are tokens to
    learn, by "LoRA Without Regret" (Schulman and others, 2025).
    """
    if settings.method == "full":
        return []
    found = []
    if learnt > trained > 0:
        rank = math.ceil(settings.lora.rank * learnt / trained)
        found.append(
            f"the adapter's {trained:,} weights are fewer than the {learnt:,} tokens that it "
            f"learns: it may fall behind full fine-tuning; finetune.lora.rank: {rank} has as many"
        )
    return found


def as_dict(plan: Plan) -> dict[str, Any]:
    """The plan as it is kept with a run."""
    return {
        "device": plan.job.device.name,
        "fits": plan.fits,
        "memory_bytes": {field.name: getattr(plan.memory, field.name) for field in fields(Memory)},
        "limit_bytes": plan.limit,
        "tokens_per_second": plan.tokens_per_second,
        "hours": plan.hours,
        "mfu": plan.mfu,
        "micro_batch": plan.settings.micro_batch,
        "gradient_checkpointing": plan.settings.gradient_checkpointing,
        "quantize": plan.settings.quantize,
        "why": plan.why,
    }
