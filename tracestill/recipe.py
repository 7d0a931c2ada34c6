"""A recipe: one YAML file that says what a run does, checked before anything starts."""

from __future__ import annotations

from pydantic import Field

from filter.config import FilterSection
from finetune.config import FinetuneSection
from generate.config import GenerateSection, ProblemsSection
from tracestill.evaluate.config import EvaluateSection
from tracestill.records.section import Section


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
