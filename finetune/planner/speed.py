"""How fast a student learns: operations and traffic of a token, against what a device does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.config import FinetuneSection
from finetune.planner.devices import Device
from finetune.planner.memory import Load, trainable
from finetune.planner.shape import Shape

# Assumed where nothing was measured; a probe or an earlier run replaces them. Large products reach
# about this part of a data sheet's peak; activations are written once and read about three times,
# by kernels that are not fused and reach most of the memory's bandwidth.
PRODUCTS, TRAFFIC = 0.65, 4 / 0.85
# Seconds that a layer's kernels take to be started, on a CPU its operations, both ways: the floor
# of small micro-batches.
_LAUNCH = 2e-3
# Bytes a second to the host and back, for what is offloaded.
_HOST = 20e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a token costs on average: operations that learning needs, those that are really made,
    and bytes of activations that are written.
    """

    needed: float
    made: float
    traffic: float


def flops_per_token(
    shape: Shape, settings: FinetuneSection, lengths: Sequence[int], learnt: float = 1.0
) -> float:
    """Operations that learning a token needs, on average over samples of `lengths` tokens: what
    model FLOPs utilisation (MFU) counts. What checkpointing computes again is not among them.

    `learnt` is the part of the tokens that pass the output layer. A multiplication and an addition
    are two operations. With frozen weights the way back has their input's gradient but not their
    own: 4 operations a weight and token, not 6.
    """
    return work(shape, settings, lengths, learnt).needed


def work(
    shape: Shape, settings: FinetuneSection, lengths: Sequence[int], learnt: float = 1.0
) -> Work:
    """What a token costs; see `flops_per_token`."""
    weights = shape.layers * shape.layer_linear
    head = shape.embedding * learnt
    many = trainable(shape, settings)
    # Causal attention: half of the square of a sample's length, for scores and for values.
    tokens = max(1, sum(lengths))
    length = sum(length * length for length in lengths) / tokens
    attention = 2.0 * length * shape.queries * shape.layers
    if settings.method == "full":
        forward, backward = 2.0 * weights, 4.0 * weights
        ends = 6.0 * head
    else:
        forward, backward = 2.0 * (weights + many), 2.0 * weights + 4.0 * many
        ends = 4.0 * head
    needed = forward + backward + ends + 3.0 * attention
    # Flash attention's way back computes the scores again.
    made = needed + 0.5 * attention
    size = 2 * shape.layers
    if settings.gradient_checkpointing is True:
        made += forward + attention
    kept = size * (9 * shape.hidden + 3 * shape.queries + 2 * shape.keys + 4 * shape.intermediate)
    again = 4 / 3 if settings.gradient_checkpointing is True else 1.0
    return Work(needed=needed, made=made, traffic=kept * again)


def micro_batch_seconds(
    shape: Shape,
    settings: FinetuneSection,
    device: Device,
    load: Load,
    lengths: Sequence[int],
    factor: float = 1.0,
) -> float | None:
    """How long a micro-batch takes, both ways, or None where the device's speed is not known.

    `lengths` are those of the samples; `factor` is how often faster a probe was than assumed.
    """
    if device.flops is None or device.bandwidth is None:
        return None
    cost = work(shape, settings, lengths, load.learnt / max(1, load.tokens))
    bound = load.tokens * (
        cost.made / (device.flops * PRODUCTS) + cost.traffic * TRAFFIC / device.bandwidth
    )
    weights = shape.layers * shape.layer_linear
    passes = 3 if settings.gradient_checkpointing is True else 2
    if settings.quantize == "nf4":
        # Each pass unfolds all weights: half a byte read, two written, two read.
        bound += passes * 4.5 * weights / device.bandwidth
    if settings.activation_offload:
        bound = max(bound, load.tokens * 4.0 * shape.hidden * shape.layers / _HOST)
    launch = _LAUNCH * shape.layers * passes / 2
    return max(bound, launch) / factor


def step_seconds(
    shape: Shape,
    settings: FinetuneSection,
    device: Device,
    load: Load,
    lengths: Sequence[int],
    micro_batches: float,
    factor: float = 1.0,
) -> float | None:
    """How long an optimiser step of so many micro-batches takes on each device."""
    one = micro_batch_seconds(shape, settings, device, load, lengths, factor)
    if one is None or device.bandwidth is None:
        return None
    # AdamW reads weight, gradient and two moments, and writes three of them.
    optimiser = 28.0 * trainable(shape, settings) / device.bandwidth
    return one * micro_batches + optimiser
