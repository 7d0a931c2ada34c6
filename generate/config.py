"""The recipe's sections `problems` and `generate`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tracestill.records.schema import Kind
from tracestill.records.section import Section


class Buckets(Section):
    """A split by a hash of the prompt, which no reordering and no added problem moves."""

    of: int = Field(ge=2)
    """How many buckets there are."""
    keep: list[int] = Field(min_length=1)
    """The buckets (0 to `of` - 1) whose problems are taken."""

    @model_validator(mode="after")
    def _exist(self) -> Buckets:
        if not all(0 <= bucket < self.of for bucket in self.keep):
            raise ValueError(f"keep: {self.of} buckets are numbered 0 to {self.of - 1}")
        return self


class GymSource(Section):
    """Problems made by a generator of reasoning-gym."""

    source: Literal["reasoning_gym"]
    family: str
    """The generator's name, such as `chain_sum`."""
    size: int = Field(ge=1)
    """How many problems to take."""
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    """The generator's own options."""
    buckets: Buckets | None = None


class FileSource(Section):
    """Problems from a JSONL, JSON, CSV or Parquet file."""

    source: Literal["file"]
    path: str
    """The file; relative to the recipe."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The file's column for each of `prompt`, `reference`, `language`; the same names if empty."""
    kind: Kind = "math"
    """How the answers are judged."""
    size: int | None = Field(default=None, ge=1)
    """How many problems to take; all if null."""
    buckets: Buckets | None = None


ProblemSource = Annotated[GymSource | FileSource, Field(discriminator="source")]


class ProblemsSection(Section):
    """The problems to distil from, and the held-out ones that judge the student."""

    train: list[ProblemSource] = Field(min_length=1)
    heldout: list[ProblemSource] = Field(min_length=1)
    instruction: str | None = None
    """A paragraph put below every prompt, such as how to write the answer; teacher and student
    both see it. Buckets do not depend on it."""


class Prices(Section):
    """What a million tokens cost, in any one currency."""

    prompt: float = Field(default=0.0, ge=0)
    completion: float = Field(default=0.0, ge=0)


class GenerateSection(Section):
    """The teacher and how it is sampled."""

    engine: Literal["vllm"] = "vllm"
    """`vllm` runs the model in this process."""
    model: str
    """A hub id, or a folder: a path that begins with `.`, `/` or `~`, relative to the recipe."""
    revision: str | None = None
    """A commit, tag or branch of the hub's repository."""
    quantization: str | None = None
    """vLLM's name of the quantisation; null reads it from the model."""
    dtype: str = "auto"
    max_model_len: int | None = Field(default=None, ge=1)
    """The longest prompt and answer together, in tokens; null takes the model's own limit."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """Any further argument of vLLM's engine."""
    system_prompt: str | None = None
    samples: int = Field(default=1, ge=1)
    """How many traces a problem gets."""
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int = Field(default=-1, ge=-1)
    """How many tokens are candidates; -1 means all."""
    max_tokens: int = Field(default=16384, ge=1)
    """The longest answer, reasoning included."""
    prices: Prices = Prices()
