"""The memory that a training step takes on a device: its peak, by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from finetune.planner.shape import Shape
from finetune.planner.terms import Load, Moment, Terms
from tracestill.recipe.finetune import FinetuneSection

# Assumed, not measured: CUDA's context with the libraries' kernels and workspaces, and the share by
# which the allocator's blocks exceed what is allocated.
CONTEXT = int(0.7e9)
SLACK = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The bytes on one device at their peak, by kind."""

    weights: int
    adapter: int
    optimiser: int
    gradients: int
    activations: int
    logits: int
    overhead: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def allocated(self) -> int:
        """The bytes in tensors: without CUDA's context and the allocator's slack."""
        return self.total - self.overhead


def memory(
    shape: Shape,
    settings: FinetuneSection,
    load: Load,
    *,
    bfloat16: bool,
    cuda: bool = True,
    traced: Sequence[Moment] = (),
) -> Memory:
    """The peak memory of a device in an optimiser step.

    `settings` have no `auto` that memory depends on. `bfloat16` says whether the student computes
    in bfloat16. `traced` are the moments of a model that the formulas do not know.

    Raises:
        ValueError: the adapter's targets name no layer.

    """
    parts = Terms(shape, settings, load, bfloat16)
    gradients, activations, logits = max(traced or parts.moments(), key=sum)
    allocated = parts.weights + parts.adapter + parts.optimiser
    allocated += gradients + activations + logits
    return Memory(
        weights=round(parts.weights),
        adapter=round(parts.adapter),
        optimiser=round(parts.optimiser),
        gradients=round(gradients),
        activations=round(activations),
        logits=round(logits),
        overhead=round(CONTEXT + SLACK * allocated) if cuda else 0,
    )
