"""Resolve `auto` settings, and find the cheapest changes that make a training fit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.planner.calibration import Calibration
from finetune.planner.devices import Device
from finetune.planner.options import Job, cost, kept, load, needs, own_rows, row_counts
from finetune.planner.shape import Shape
from tracestill.recipe.finetune import FinetuneSection, Launch

# The tokens of a micro-batch that keep a CPU's threads busy.
_ENOUGH = 4096
# The hidden size of a student from which products take most of a CPU's time; below it rounding them
# to bfloat16 is not worth it.
_WIDE = 512
# Relative differences in time below this do not count.
_SAME = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Settings that fit: `text` says how they differ from the recipe's, `memory` is in bytes,
    `times` relative to the recipe's time. `dropped` samples are too long for them.
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
    """Replace `auto` in the settings that memory depends on; returns a line of reason for each too.

    Raises:
        ValueError: the adapter's targets name no layer.

    """
    job = Job(shape=shape, device=device, lengths=lengths, calibration=calibration)
    settings, first = _on_cpu(settings, shape.hidden, device)
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
    # 16-bit weights are more exact, so 4-bit ones come last.
    fitting = [way for way in fitting if way.quantize == fitting[0].quantize]
    least = min(ways, key=lambda way: needs(job, way).total)
    chosen = _fastest(job, fitting) if fitting else least
    if asked and not fitting:
        names = ", ".join(f"{name}: {str(getattr(chosen, name)).lower()}" for name in asked)
        taken, room = needs(job, chosen).total, job.comfortable
        least_of = f"{names}: the least memory, and still {size(taken)} of {size(room)}"
        return chosen, [*first, least_of]
    return chosen, [*first, *(_why(job, chosen, name, most) for name in asked)]


def _on_cpu(
    settings: FinetuneSection, hidden: int, device: Device
) -> tuple[FinetuneSection, list[str]]:
    """Replace the `auto` of `dtype` on a CPU that multiplies bfloat16 in hardware, by that."""
    if (
        settings.dtype != "auto" or device.cuda or not device.bfloat16 or hidden < _WIDE
        or settings.method != "lora" or settings.quantize == "nf4"
    ):  # fmt: skip
        return settings, []
    chosen = settings.model_copy(update={"dtype": "bfloat16"})
    return chosen, ["dtype: bfloat16, which this CPU multiplies in hardware"]


def careful(settings: FinetuneSection, device: Device) -> tuple[FinetuneSection, list[str]]:
    """Replace `auto` by what takes the least memory, without finding out how much: for models that
    would have to be traced on a CPU.
    """
    least = {"quantize": "none", "gradient_checkpointing": device.cuda, "micro_batch": 1}
    update = {name: value for name, value in least.items() if getattr(settings, name) == "auto"}
    why = "the planner has no formulas for this architecture, so it takes the least memory"
    return settings.model_copy(update=update), [f"{name}: {why}" for name in update]


def _choices(value: object, if_auto: Sequence[object]) -> Sequence[object]:
    return if_auto if value == "auto" else [value]


def _fastest(job: Job, ways: Sequence[FinetuneSection]) -> FinetuneSection:
    """The way that takes the least time, among equals the least memory. On a CPU the smallest
    micro-batch that keeps the threads busy.
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
            return f"{said}, since 16-bit weights fit"
        whole = chosen.model_copy(update={"quantize": "none", "micro_batch": 1})
        whole = whole.model_copy(update={"gradient_checkpointing": True})
        return f"{said}, since with 16-bit weights a row takes {size(needs(job, whole).total)}"
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
    """Changes by which at most `limit` bytes are taken: the fastest first, those that shorten rows
    or need more devices last. Empty if nothing helps.
    """
    now = cost(job, settings)
    better = sorted(_same_data(job, settings, limit, now), key=lambda change: change.times)[:2]
    if not better:
        better += _shorter(job, settings, limit, now)
    if job.device.cuda:
        better += _more_devices(job, settings, limit, now)
    return better


def _same_data(job: Job, settings: FinetuneSection, limit: int, now: float) -> list[Change]:
    """All minimal sets of changes that compute the same in less memory."""
    made: list[Change] = []
    fitting: list[set[str]] = []
    for update in _savings(job, settings):
        changed = settings.model_copy(update=update)
        if needs(job, changed).total > limit or any(keys < set(update) for keys in fitting):
            continue
        fitting.append(set(update))
        text = ", ".join(f"{key}: {str(value).lower()}" for key, value in update.items())
        made.append(_change(job, changed, text, now))
    return made


def _change(job: Job, changed: FinetuneSection, text: str, now: float, dropped: int = 0) -> Change:
    memory, times = needs(job, changed).total, cost(job, changed) / now
    return Change(text=text, settings=changed, memory=memory, times=times, dropped=dropped)


def _may_quantise(job: Job, settings: FinetuneSection) -> bool:
    return settings.method == "lora" and job.device.cuda and not settings.launch.sharded


def _savings(job: Job, settings: FinetuneSection) -> list[dict[str, object]]:
    """Every combination of changes that save memory, the smaller first."""
    single: list[dict[str, object]] = []
    rows = min(int(settings.micro_batch), own_rows(job, settings))
    if not settings.gradient_checkpointing:
        single.append({"gradient_checkpointing": True})
    if rows > 1:
        single.append({"micro_batch": 1})
    if settings.quantize == "none" and _may_quantise(job, settings):
        single.append({"quantize": "nf4"})
    if not settings.activation_offload and job.device.cuda:
        # Without checkpointing there is too much to move.
        offload: dict[str, object] = {"activation_offload": True}
        if not settings.gradient_checkpointing:
            offload |= {"gradient_checkpointing": True}
        single.append(offload)
    return [
        {key: value for update in some for key, value in update.items()}
        for count in range(1, len(single) + 1)
        for some in itertools.combinations(single, count)
    ]


def _least(job: Job, settings: FinetuneSection) -> FinetuneSection:
    """The settings with all changes that save memory and compute the same."""
    update: dict[str, object] = {"gradient_checkpointing": True, "micro_batch": 1}
    if job.device.cuda:
        update["activation_offload"] = True
    if _may_quantise(job, settings):
        update["quantize"] = "nf4"
    return settings.model_copy(update=update)


def _shorter(job: Job, settings: FinetuneSection, limit: int, now: float) -> list[Change]:
    """The longest rows that fit with all other savings."""
    least = _least(job, settings)
    length = settings.max_length
    while length > 512:
        length = length * 3 // 4 // 64 * 64
        changed = least.model_copy(update={"max_length": length})
        shorter = kept(job, changed)
        if not shorter:
            return []
        if needs(job, changed).total <= limit:
            text = f"max_length: {length}{_beside(settings, changed)}"
            dropped = len(job.lengths) - len(shorter) if job.lengths else 0
            return [_change(job, changed, text, now, dropped)]
    return []


def _more_devices(job: Job, settings: FinetuneSection, limit: int, now: float) -> list[Change]:
    """The fewest devices that fit the sharded model."""
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
            if count > settings.launch.gpus and needs(job, changed).total <= limit:
                text = f"launch: {{gpus: {count}, strategy: fsdp}}{_beside(settings, changed)}"
                return [_change(job, changed, text, now)]
    return []


def _beside(settings: FinetuneSection, changed: FinetuneSection) -> str:
    """The memory settings that differ, as text."""
    names = ("gradient_checkpointing", "micro_batch", "quantize", "activation_offload")
    return "".join(
        f", {name}: {str(getattr(changed, name)).lower()}"
        for name in names
        if getattr(changed, name) != getattr(settings, name)
    )


def size(amount: float) -> str:
    """Bytes in MiB or GiB, as text."""
    if amount < 2**30 / 10:
        return f"{amount / 2**20:,.1f} MiB"
    return f"{amount / 2**30:,.1f} GiB"
