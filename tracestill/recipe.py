"""A recipe: one YAML file that says what a run does, checked before anything starts."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from filter.config import FilterSection
from finetune.config import FinetuneSection
from generate.config import GenerateSection, ProblemsSection
from tracestill.evaluate.config import EvaluateSection
from tracestill.records.hosts import plain_host
from tracestill.records.section import Section


class ReportSection(Section):
    """What the report shows."""

    traces: int = Field(default=50, ge=0)
    """How many sample traces."""


class EgressSection(Section):
    """What may leave this machine."""

    allow: list[Annotated[str, AfterValidator(plain_host)]] = []
    """The hosts that endpoints may be on, each by its whole name, without scheme and port, such
    as `api.deepseek.com`; this machine itself needs no entry."""


class Recipe(Section):
    """Problems, teacher, filters, student, evaluation and report of one run."""

    extends: str | None = None
    """A recipe whose keys are taken where this one has none; relative to this one."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The run's name: it lies in `runs/<name>/`."""
    description: str = ""
    seed: int = 0
    problems: ProblemsSection
    egress: EgressSection = EgressSection()
    generate: GenerateSection
    filter: FilterSection = FilterSection()
    finetune: FinetuneSection
    evaluate: EvaluateSection = EvaluateSection()
    report: ReportSection = ReportSection()
