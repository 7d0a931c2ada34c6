"""The recipe's section `finetune`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracestill.records.section import Section


class Lora(Section):
    """The adapter."""

    rank: int = Field(default=32, ge=1)
    alpha: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | list[str] = "all-linear"
    """peft's `target_modules`."""


class FinetuneSection(Section):
    """The student and how it learns."""

    student: str
    """A hub id, or a folder: a path that begins with `.`, `/` or `~`, relative to the recipe."""
    revision: str | None = None
    template: str
    """The chat template (a .jinja file, relative to the recipe) that the student learns."""
    think: Literal["prefilled", "generated"] = "prefilled"
    """Whether the template's generation prompt already opens `<think>`."""
    stop: str
    """The token that ends a turn; it is trained, and becomes generation_config's eos."""
    lora: Lora = Lora()
    learning_rate: float = Field(default=2e-4, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """The part of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    epochs: float = Field(default=3.0, gt=0)
    max_length: int = Field(default=16384, ge=2)
    """The longest sample, and the length of a packed row, in tokens. Longer ones are dropped."""
    packing: bool = True
    """Put several samples into a row, without attention from one to another."""
    batch_size: int = Field(default=8, ge=1)
    """Rows on the device at once."""
    accumulation: int = Field(default=1, ge=1)
    """Device batches to an optimiser step."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """The frozen weights' dtype; `auto` is bfloat16 on a GPU and float32 without. Adapters
    stay float32."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(default=100, ge=1)
    """Optimiser steps between checkpoints."""
