"""The plan of a training: memory, time, and what to change if it does not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from finetune.curriculum import expected_epochs
from finetune.planner.calibration import Calibration
from finetune.planner.choose import Change, careful, changes, resolve, size
from finetune.planner.devices import Device
from finetune.planner.memory import Memory
from finetune.planner.options import Job, kept, load, needs, own_rows, seconds_per_token
from finetune.planner.rates import settle_rates
from finetune.planner.shape import Shape
from finetune.planner.speed import flops_per_token
from finetune.planner.terms import trainable
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records.figures import PlanFigures, Predicted

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
class TrainingPlan:
    """The plan of a training with `settings`, in which memory depends on no `auto` any more.

    `memory` is the peak on each device, `limit` the bytes that may be used. `trained` of
    `job.shape.parameters` weights are trained. `tokens` are those of all epochs (with `epochs:
    auto` of the most), 0 if the samples are not known; `tokens_per_second` is that of all devices;
    both it and `hours` can be None for unknown. `why` has a line for each setting that was `auto`;
    `changes` is empty if it fits.
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
        """Whether the memory is enough."""
        return self.memory.total <= self.limit


def plan(
    settings: FinetuneSection,
    shape: Shape,
    device: Device,
    lengths: Sequence[int] = (),
    calibration: Calibration | None = None,
    learnt: float = 1.0,
) -> TrainingPlan:
    """Plan a training on samples of `lengths` tokens, of which the share `learnt` is learnt, or on
    full rows if they are not known yet.

    Raises:
        ValueError: the adapter's targets name no layer, or every sample is longer than a row.

    """
    job = Job(shape=shape, device=device, lengths=lengths, learnt=learnt, calibration=calibration)
    if not kept(job, settings):
        raise ValueError(
            f"every sample is longer than finetune.max_length ({settings.max_length} tokens); the "
            f"shortest has {min(lengths)}"
        )
    settings, rates = settle_rates(settings, shape, lengths, learnt)
    if shape.traced is not None and not device.cuda:
        settled, why = careful(settings, device)
    else:
        settled, why = resolve(settings, shape, device, lengths, calibration)
    why = [*rates, *why]
    if settled.lora.dora and settled.method == "lora":
        why = [*why, "lora.dora: true takes more than is predicted here, about a sixth"]
    taken = needs(job, settled)
    each = seconds_per_token(job, settled)
    tokens = round(sum(kept(job, settled)) * expected_epochs(settled, lengths)) if lengths else 0
    rows = min(int(settled.micro_batch), own_rows(job, settled))
    mfu = None
    if each is not None and device.flops:
        operations = flops_per_token(shape, settled, kept(job, settled), learnt)
        mfu = operations / each / (device.flops * settled.launch.gpus)
    return TrainingPlan(
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


def replan(made: TrainingPlan, calibration: Calibration) -> TrainingPlan:
    """The same plan with a device that was measured."""
    job, device = made.job, calibration.of(made.job.device)
    again = plan(made.settings, job.shape, device, job.lengths, calibration, job.learnt)
    return replace(again, why=made.why)


def explain_oom(plan: TrainingPlan, error: BaseException, micro_batch: int) -> str:
    """What took the memory when `micro_batch` rows did not fit, and what to change, in one line."""
    settings = plan.settings.model_copy(update={"micro_batch": micro_batch})
    taken = needs(plan.job, settings)
    parts = sorted(asdict(taken).items(), key=lambda part: part[1], reverse=True)
    shown = ", ".join(f"{NAMES[name]} {size(amount)}" for name, amount in parts[:3])
    wanted = re.search(r"[Tt]ried to allocate ([\d.]+ [KMG]i?B)", str(error))
    asked = f" when {wanted[1]} more were asked for" if wanted else ""
    tokens = load(plan.job, settings, micro_batch).tokens
    line = (
        f"out of memory{asked}: {micro_batch} row{'s' * (micro_batch > 1)} ({tokens:,} tokens) "
        f"on {plan.job.device.name} of {size(plan.job.device.memory)}; predicted: {shown}"
    )
    # It did not fit, whatever was predicted: a change must take clearly less.
    limit = min(plan.limit, int(taken.total * 0.95))
    found = changes(plan.job, settings, limit)
    if not found:
        return f"{line}; no change makes it fit: take a smaller student or a larger device"
    return f"{line}; set {found[0].text} ({_lasts(found[0])})"


def _lasts(change: Change) -> str:
    dropped = f", {change.dropped:,} samples are too long for it" if change.dropped else ""
    return f"{size(change.memory)}, {change.times:.2f} times as long{dropped}"


def compare(
    plan: TrainingPlan, tokens_per_second: float, memory_bytes: float | None = None
) -> dict[str, Predicted]:
    """The predictions of a plan beside what was measured, by name: `tokens_per_second`, and
    `memory_bytes`, the most that torch's allocator held. What was not predicted or measured is left
    out.
    """
    pairs = {
        "memory_bytes": (float(plan.memory.allocated), memory_bytes),
        "tokens_per_second": (plan.tokens_per_second, tokens_per_second),
    }
    return {
        name: Predicted(
            predicted=round(predicted, 1),
            actual=round(float(actual), 1),
            difference=round(predicted / actual - 1, 4),
        )
        for name, (predicted, actual) in pairs.items()
        if predicted is not None and actual
    }


def hints(settings: FinetuneSection, device: Device, trained: int, learnt: int) -> list[str]:
    """What to change for a better training, a line each: `trained` weights learn `learnt` tokens.

    An adapter keeps up with full fine-tuning while it has as many weights as there are tokens to
    learn, by "LoRA Without Regret" (Schulman et al., 2025).
    """
    said = []
    if settings.dtype == "bfloat16" and not device.bfloat16:
        said.append(
            f"{device.name} has no products of bfloat16, so training is several times slower than "
            "in float32; leave finetune.dtype out"
        )
    if settings.method == "full" or not learnt > trained > 0:
        return said
    rank = math.ceil(int(settings.lora.rank) * learnt / trained)
    return [
        *said,
        f"the adapter's {trained:,} weights are fewer than the {learnt:,} tokens that it learns: "
        f"it may fall behind full fine-tuning; finetune.lora.rank: {rank} has as many",
    ]


def plan_figures(plan: TrainingPlan, why: list[str]) -> PlanFigures:
    """The plan as it is kept with a run; `why` are the reasons of its `auto` settings."""
    return PlanFigures(
        device=plan.job.device.name,
        fits=plan.fits,
        memory_bytes=asdict(plan.memory),
        limit_bytes=plan.limit,
        tokens_per_second=plan.tokens_per_second,
        hours=plan.hours,
        mfu=plan.mfu,
        micro_batch=plan.settings.micro_batch,
        gradient_checkpointing=plan.settings.gradient_checkpointing,
        quantize=plan.settings.quantize,
        why=why,
    )
