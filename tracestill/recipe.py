"""A recipe: one YAML file that says what a run does, checked before anything starts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from filter.config import FilterSection
from finetune.config import FinetuneSection
from generate.config import GenerateSection, ProblemsSection
from tracestill.records.section import Section

Subject = Literal["student_before", "student_after", "teacher"]


class EvaluateSection(Section):
    """How the models are judged on the held-out problems."""

    models: list[Subject] = ["student_before", "student_after", "teacher"]
    samples: int = Field(default=1, ge=1)
    """Answers to a problem and model."""
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int = Field(default=-1, ge=-1)
    max_tokens: int | None = Field(default=None, ge=1)
    """The longest answer; null takes the generate section's."""


class ReportSection(Section):
    """What the report shows."""

    traces: int = Field(default=50, ge=0)
    """How many sample traces."""


class Recipe(Section):
    """Problems, teacher, filters, student, evaluation and report of one run."""

    extends: str | None = None
    """A recipe whose keys are taken where this one has none; relative to this one."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The run's name: it lies in `runs/<name>/`."""
    description: str = ""
    seed: int = 0
    problems: ProblemsSection
    generate: GenerateSection
    filter: FilterSection = FilterSection()
    finetune: FinetuneSection
    evaluate: EvaluateSection = EvaluateSection()
    report: ReportSection = ReportSection()
