"""The speed of a training: a token's operations and memory traffic on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.planner.devices import Device
from finetune.planner.shape import Shape
from finetune.planner.terms import Load, trainable
from tracestill.recipe.finetune import FinetuneSection

# As measured on an H100 (benchmarks/README.md) unless the device is calibrated. Large products
# reach about this share of a data sheet's peak. An activation that is kept stands for many that are
# written and read: norms in float32, adapters' casts, kernels that are not fused.
PRODUCTS, TRAFFIC = 0.65, 20.0
# Seconds to launch a layer's kernels, forward and backward: the floor of small micro-batches. On a
# GPU as measured there, on a CPU assumed, unless it is probed.
_LAUNCH, _LAUNCH_CPU = 12e-3, 2e-3
# Bytes per second to the host and back, for offloading.
_HOST = 20e9


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCost:
    """The average cost of a token: operations `needed`, those `made` with recomputation, and bytes
    of activations written (`traffic`).
    """

    needed: float
    made: float
    traffic: float


def flops_per_token(
    shape: Shape, settings: FinetuneSection, lengths: Sequence[int], learnt: float = 1.0
) -> float:
    """Operations needed to learn from a token, on average over samples of `lengths` tokens: what
    model FLOPs utilisation (MFU) counts, without the recomputation of checkpointing.

    `learnt` is the share of tokens that pass the output layer. A multiply-add is two operations.
    The backward pass of frozen weights computes their input's gradient but not their own: 4
    operations per weight and token, not 6.
    """
    return token_cost(shape, settings, lengths, learnt).needed


def token_cost(
    shape: Shape, settings: FinetuneSection, lengths: Sequence[int], learnt: float = 1.0
) -> TokenCost:
    """The cost of a token; see `flops_per_token`."""
    weights = shape.linear_weights
    head = shape.embedding * learnt
    many = trainable(shape, settings)
    # Causal attention: half of the square of a sample's length, for scores and for values.
    tokens = max(1, sum(lengths))
    length = sum(length * length for length in lengths) / tokens
    attention = 2.0 * length * shape.queries * shape.attending
    if settings.method == "full":
        forward, backward = 2.0 * weights, 4.0 * weights
        ends = 6.0 * head
    else:
        forward, backward = 2.0 * (weights + many), 2.0 * weights + 4.0 * many
        ends = 4.0 * head
    needed = forward + backward + ends + 3.0 * attention
    # Flash attention recomputes the scores in the backward pass.
    made = needed + 0.5 * attention
    size = 2 * shape.layers
    if settings.gradient_checkpointing is True:
        made += forward + attention
    kept = size * (9 * shape.hidden + 3 * shape.queries + 2 * shape.keys + 4 * shape.intermediate)
    again = 4 / 3 if settings.gradient_checkpointing is True else 1.0
    return TokenCost(needed=needed, made=made, traffic=kept * again)


def micro_batch_seconds(
    shape: Shape,
    settings: FinetuneSection,
    device: Device,
    load: Load,
    lengths: Sequence[int],
) -> float | None:
    """The seconds of a micro-batch of samples of `lengths` tokens, forward and backward; None if
    the device's speed is unknown.
    """
    if device.flops is None or device.bandwidth is None:
        return None
    cost = token_cost(shape, settings, lengths, load.learnt / max(1, load.tokens))
    bound = load.tokens * (
        cost.made / (device.flops * PRODUCTS) + cost.traffic * TRAFFIC / device.bandwidth
    )
    weights = shape.linear_weights
    passes = 3 if settings.gradient_checkpointing is True else 2
    if settings.quantize == "nf4":
        # Each pass dequantises all weights: half a byte read, two written, two read.
        bound += passes * 4.5 * weights / device.bandwidth
    if settings.activation_offload:
        bound = max(bound, load.tokens * 4.0 * shape.hidden * shape.layers / _HOST)
    launch = (_LAUNCH if device.cuda else _LAUNCH_CPU) * shape.layers * passes / 2
    return max(bound, launch)


def step_seconds(
    shape: Shape,
    settings: FinetuneSection,
    device: Device,
    load: Load,
    lengths: Sequence[int],
    micro_batches: float,
    factor: float = 1.0,
) -> float | None:
    """The seconds of an optimiser step of so many micro-batches on each device; `factor` is the
    calibration's speed.
    """
    one = micro_batch_seconds(shape, settings, device, load, lengths)
    if one is None or device.bandwidth is None:
        return None
    # AdamW reads weight, gradient and two moments, and writes three of them.
    optimiser = 28.0 * trainable(shape, settings) / device.bandwidth
    return (one * micro_batches + optimiser) / factor
