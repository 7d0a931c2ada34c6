"""The recipe's section `evaluate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracestill.recipe.section import Section

Subject = Literal["student_before", "student_after", "teacher"]


# Keys that change nothing about the answers or their verdicts.
NEUTRAL = frozenset({"max_failed"})


class ForgettingBenchmark(Section):
    """A benchmark on which the student is asked before and after its training."""

    benchmark: str
    """A name of recipes/benchmarks, or a YAML file like those there."""
    path: str | None = None
    """A local file of the named benchmark's questions, in place of the hub."""
    problems: int = Field(default=200, ge=2)
    """At most so many problems, the same ones in every run: hashes of their ids draw them."""


class EvaluateSection(Section):
    """How the models are judged on the held-out problems."""

    models: list[Subject] = ["student_before", "student_after", "teacher"]
    """Which models answer the held-out problems."""
    samples: int = Field(default=1, ge=1)
    """Answers to a problem and model."""
    temperature: float = Field(default=0.6, ge=0)
    """How freely tokens are drawn; 0 takes the likeliest."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Tokens are drawn from the likeliest ones, until their probabilities sum to this."""
    top_k: int = Field(default=-1, ge=-1)
    """How many tokens are candidates; -1 means all."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The longest answer; null takes the generate section's."""
    max_failed: float = Field(default=0.02, ge=0, le=1)
    """The share of a model's requests that may fail. Failed requests are no part of pass@1, and
    above this share the stage ends with an error."""
    forgetting: list[ForgettingBenchmark] = []
    """Benchmarks of what the student is not taught. Base and student are asked each problem once,
    as they are asked the held-out ones, and the two are compared problem by problem."""
