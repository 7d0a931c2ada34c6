"""The recipe's key `finetune.on_policy`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from tracestill.recipe.section import Section

Auto = Literal["auto"]


class OnPolicy(Section):
    """On-policy distillation after the training on traces: the student samples, and learns the
    teacher's distribution on its own samples (Agarwal et al., 2024). Both must have the same
    vocabulary.
    """

    teacher: str
    """A hub id or a folder, as for `student`; `trust_remote_code` holds for it too. It is loaded
    beside the student."""
    revision: str | None = None
    """A commit, tag or branch of the teacher's repository on the hub; what is newest if null."""
    steps: int = Field(default=100, ge=1)
    """Optimiser steps."""
    prompts: int = Field(default=8, ge=1)
    """Prompts per optimiser step, each sampled once."""
    max_tokens: int = Field(default=2048, ge=1)
    """Of each sample. Samples that reach it are learnt from all the same."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling, and of both distributions when they are compared."""
    learning_rate: float | Auto = "auto"
    """`auto`: 1e-4 for an adapter, 1e-5 for all weights."""
    beta: float = Field(default=1.0, ge=0, le=1)
    """The divergence: 0 is forward KL, 1 reverse KL, between them generalised Jensen-Shannon."""

    @field_validator("teacher")
    @classmethod
    def _has_weights(cls, teacher: str) -> str:
        if "://" in teacher:
            raise ValueError(
                "a served teacher does not give its distribution over the whole vocabulary; name a "
                "hub id or a folder with its weights, or leave on_policy out: its traces teach "
                "without it"
            )
        return teacher
