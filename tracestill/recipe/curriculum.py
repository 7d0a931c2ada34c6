"""The stages of a training: each learns its own selection of the kept traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracestill.recipe.section import Section
from tracestill.recipe.selection import Select

Schedule = Literal["linear", "cosine", "constant"]


class TrainingStage(Section):
    """A part of the training. What it does not say is as in `finetune`."""

    select: Select | None = None
    """Which of the traces that the filter keeps; null: all of them."""
    epochs: float | None = Field(default=None, gt=0)
    """How often each of its traces is learnt from."""
    learning_rate: float | None = Field(default=None, gt=0)
    """The highest of this stage."""
    schedule: Schedule | None = None
    """Of this stage: its learning rate rises and falls within it."""
    warmup: float | None = Field(default=None, ge=0, lt=1)
    """The share of this stage's steps."""
    batch_size: int | None = Field(default=None, ge=1)
    """Packed rows per optimiser step, all devices together."""
    packing: bool | None = None
    """Put several samples into a row."""
