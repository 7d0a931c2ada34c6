"""Settle what is `auto`, and find the cheapest change where a training does not fit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.config import FinetuneSection, Launch
from finetune.planner.calibration import Calibration
from finetune.planner.devices import Device
from finetune.planner.options import Job, cost, kept, load, needs, own_rows, row_counts
from finetune.planner.shape import Shape

# A micro-batch of so many tokens keeps a CPU's threads busy.
_ENOUGH = 4096
# Differences of time below this part are none.
_SAME = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Settings that fit, what differs from the recipe's, the bytes and how many times as long it
    lasts. `dropped` samples are too long for it.
    """

    text: str
    settings: FinetuneSection
    memory: int
    times: float
    dropped: int = 0


def resolve(
    settings: FinetuneSection,
    shape: Shape,
    device: Device,
    lengths: Sequence[int] = (),
    calibration: Calibration | None = None,
) -> tuple[FinetuneSection, list[str]]:
    """The settings without `auto` where memory depends on it, and a line for each that says why.

    Raises:
        ValueError: the adapter's targets name no layer.

    """
    job = Job(shape=shape, device=device, lengths=lengths, calibration=calibration)
    return settle(job, settings)


def settle(job: Job, settings: FinetuneSection) -> tuple[FinetuneSection, list[str]]:
    """As `resolve`."""
    asked = [
        name
        for name in ("quantize", "gradient_checkpointing", "micro_batch")
        if getattr(settings, name) == "auto"
    ]
    most = own_rows(job, settings)
    weights = ["none", "nf4"] if _may_quantise(job, settings) else ["none"]
    ways = [
        settings.model_copy(
            update={"quantize": quantize, "gradient_checkpointing": again, "micro_batch": rows}
        )
        for quantize in (weights if settings.quantize == "auto" else [settings.quantize])
        for again in _choices(settings.gradient_checkpointing, [False, True])
        for rows in _choices(settings.micro_batch, row_counts(most))
    ]
    fitting = [way for way in ways if needs(job, way).total <= job.comfortable]
    # Whole weights are learnt on more exactly than weights of 4 bits, so those come last.
    fitting = [way for way in fitting if way.quantize == fitting[0].quantize]
    least = min(ways, key=lambda way: needs(job, way).total)
    chosen = _fastest(job, fitting) if fitting else least
    if asked and not fitting:
        names = ", ".join(f"{name}: {str(getattr(chosen, name)).lower()}" for name in asked)
        taken, room = needs(job, chosen).total, job.comfortable
        return chosen, [f"{names}: the least memory, and still {size(taken)} of {size(room)}"]
    return chosen, [_why(job, chosen, name, most) for name in asked]


def _choices(value: object, if_auto: Sequence[object]) -> Sequence[object]:
    return if_auto if value == "auto" else [value]


def _fastest(job: Job, ways: Sequence[FinetuneSection]) -> FinetuneSection:
    """The one that takes least time; among equals the one that takes least memory. On a CPU a
    micro-batch grows until it keeps the threads busy, and no further.
    """
    if not job.device.cuda:
        plain = [way for way in ways if not way.gradient_checkpointing] or list(ways)
        sizes = [load(job, way, int(way.micro_batch)).tokens for way in plain]
        enough = [way for way, size in zip(plain, sizes, strict=True) if size >= _ENOUGH]
        return enough[0] if enough else plain[-1]
    times = [cost(job, way) for way in ways]
    near = [way for way, time in zip(ways, times, strict=True) if time <= min(times) * (1 + _SAME)]
    return min(near, key=lambda way: needs(job, way).total)


def _why(job: Job, chosen: FinetuneSection, name: str, most: int) -> str:
    room = job.comfortable
    said = f"{name}: {str(getattr(chosen, name)).lower()}"
    if name == "quantize":
        if chosen.quantize == "none":
            return f"{said}, since whole weights fit"
        whole = chosen.model_copy(update={"quantize": "none", "micro_batch": 1})
        whole = whole.model_copy(update={"gradient_checkpointing": True})
        return f"{said}, since with whole weights a row takes {size(needs(job, whole).total)}"
    if name == "gradient_checkpointing":
        if not chosen.gradient_checkpointing:
            return f"{said}, since all activations fit"
        without = chosen.model_copy(update={"gradient_checkpointing": False, "micro_batch": 1})
        return f"{said}, since without it a row takes {size(needs(job, without).total)}"
    rows = int(chosen.micro_batch)
    tokens = load(job, chosen, rows).tokens
    if rows == most:
        return f"{said}, all of a step's rows at once ({tokens:,} tokens)"
    more = chosen.model_copy(update={"micro_batch": min(most, 2 * rows)})
    if needs(job, more).total > room:
        taken = needs(job, more).total
        return f"{said}, since {int(more.micro_batch)} rows take {size(taken)} of {size(room)}"
    return f"{said}, since {tokens:,} tokens at once keep the device busy"


def changes(job: Job, settings: FinetuneSection, limit: int) -> list[Change]:
    """What to change so that at most `limit` bytes are taken, the cheapest in time first, what
    drops samples or asks for more devices after that. Empty where nothing helps.
    """
    now = cost(job, settings)
    found = [*_same_data(job, settings, limit, now)]
    found.sort(key=lambda change: change.times)
    better = found[:2]
    if not better:
        better += _shorter(job, settings, limit, now)
    if job.device.cuda:
        better += _more_devices(job, settings, limit, now)
    return better


def _same_data(job: Job, settings: FinetuneSection, limit: int, now: float) -> list[Change]:
    """Every way to compute the same in less memory, of which none can do with a step less."""
    made: list[tuple[set[str], Change]] = []
    for steps in _steps(job, settings):
        update: dict[str, object] = {}
        for step in steps:
            update |= step
        changed = settings.model_copy(update=update)
        taken = needs(job, changed).total
        keys = set(update)
        if taken > limit or any(fewer < keys for fewer, _ in made):
            continue
        text = ", ".join(f"{key}: {str(value).lower()}" for key, value in update.items())
        made.append(
            (
                keys,
                Change(text=text, settings=changed, memory=taken, times=cost(job, changed) / now),
            )
        )
    return [change for _, change in made]


def _may_quantise(job: Job, settings: FinetuneSection) -> bool:
    return settings.method == "lora" and job.device.cuda and not settings.launch.sharded


def _steps(job: Job, settings: FinetuneSection) -> list[tuple[dict[str, object], ...]]:
    """Sets of changes, the smaller first."""
    single: list[dict[str, object]] = []
    rows = min(int(settings.micro_batch), own_rows(job, settings))
    if not settings.gradient_checkpointing:
        single.append({"gradient_checkpointing": True})
    if rows > 1:
        single.append({"micro_batch": 1})
    if settings.quantize == "none" and _may_quantise(job, settings):
        single.append({"quantize": "nf4"})
    if not settings.activation_offload and job.device.cuda:
        # Without checkpointing it would have to move too much.
        offload: dict[str, object] = {"activation_offload": True}
        if not settings.gradient_checkpointing:
            offload |= {"gradient_checkpointing": True}
        single.append(offload)
    return [
        steps
        for count in range(1, len(single) + 1)
        for steps in itertools.combinations(single, count)
    ]


def _least(job: Job, settings: FinetuneSection) -> FinetuneSection:
    """All that saves memory and computes the same."""
    update: dict[str, object] = {"gradient_checkpointing": True, "micro_batch": 1}
    if _may_quantise(job, settings):
        update |= {"quantize": "nf4", "activation_offload": True}
    elif job.device.cuda:
        update |= {"activation_offload": True}
    return settings.model_copy(update=update)


def _shorter(job: Job, settings: FinetuneSection, limit: int, now: float) -> list[Change]:
    """The longest rows that fit with all that saves memory."""
    least = _least(job, settings)
    length = settings.max_length
    while length > 512:
        length = length * 3 // 4 // 64 * 64
        changed = least.model_copy(update={"max_length": length})
        shorter = kept(job, changed)
        if not shorter:
            return []
        taken = needs(job, changed).total
        if taken <= limit:
            text = f"max_length: {length}{_beside(settings, changed)}"
            dropped = len(job.lengths) - len(shorter) if job.lengths else 0
            times = cost(job, changed) / now
            return [Change(text=text, settings=changed, memory=taken, times=times, dropped=dropped)]
    return []


def _more_devices(job: Job, settings: FinetuneSection, limit: int, now: float) -> list[Change]:
    """The fewest devices of the kind, each with a part of the model."""
    for count in (2, 4, 8):
        for offload in (settings.activation_offload, True):
            update: dict[str, object] = {
                "launch": Launch(gpus=count, strategy="fsdp"),
                "gradient_checkpointing": True,
                "micro_batch": 1,
                "quantize": "none",
                "activation_offload": offload,
            }
            changed = settings.model_copy(update=update)
            taken = needs(job, changed).total
            if count > settings.launch.gpus and taken <= limit:
                text = f"launch: {{gpus: {count}, strategy: fsdp}}{_beside(settings, changed)}"
                times = cost(job, changed) / now
                return [Change(text=text, settings=changed, memory=taken, times=times)]
    return []


def _beside(settings: FinetuneSection, changed: FinetuneSection) -> str:
    """What else differs."""
    names = ("gradient_checkpointing", "micro_batch", "quantize", "activation_offload")
    return "".join(
        f", {name}: {str(getattr(changed, name)).lower()}"
        for name in names
        if getattr(changed, name) != getattr(settings, name)
    )


def size(amount: float) -> str:
    """Bytes, for people."""
    if amount < 2**30 / 10:
        return f"{amount / 2**20:,.1f} MiB"
    return f"{amount / 2**30:,.1f} GiB"
