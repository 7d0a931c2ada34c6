"""A recipe: one YAML file that says what a run does, checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from tracestill.recipe.evaluate import EvaluateSection
from tracestill.recipe.filter import FilterSection
from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.generate import GenerateSection, ImportTeacher, ServedTeacher
from tracestill.recipe.hosts import plain_host
from tracestill.recipe.problems import GymSource, ProblemsSection
from tracestill.recipe.rounds import Rounds
from tracestill.recipe.rules import kind_mistake
from tracestill.recipe.section import Section

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class ReportSection(Section):
    """What the report shows."""

    traces: int | None = Field(default=None, ge=0)
    """How many traces at most; null: as many as there is room for."""
    megabytes: float = Field(default=8.0, gt=0, le=100)
    """How much of the page the traces may take, in millions of bytes. If they are more, whole
    problems' traces are chosen, of which each reason has some."""


class EgressSection(Section):
    """What may leave this machine."""

    allow: list[Annotated[str, AfterValidator(plain_host)]] = []
    """The hosts that endpoints may be on, each by its whole name, without scheme and port, such
    as `api.deepseek.com`; this machine itself needs no entry."""


class Recipe(Section):
    """Problems, teacher, filters, student, evaluation and report of one run."""

    extends: str | None = None
    """A recipe whose keys are taken where this one has none; relative to this one."""
    name: str = Field(default="recipe", pattern=NAME)
    """The run's name: it lies in `runs/<name>/`. By default that of the recipe's file."""
    description: str = ""
    """What the run is for, in a sentence."""
    seed: int = 0
    """Where the run's randomness begins: sampling, order, adapters."""
    problems: ProblemsSection
    egress: EgressSection = EgressSection()
    generate: GenerateSection
    filter: FilterSection = FilterSection()
    finetune: FinetuneSection
    evaluate: EvaluateSection = EvaluateSection()
    report: ReportSection = ReportSection()
    rounds: Rounds | None = None
    """Several runs, each taught by the student of the one before; null: one."""

    @model_validator(mode="before")
    @classmethod
    def _without_teacher(cls, values: Any) -> Any:
        """Imported traces have no teacher that could be asked, nor a budget to take over."""
        teacher = values.get("generate") if isinstance(values, dict) else None
        if not isinstance(teacher, dict) or teacher.get("engine") != "import":
            return values
        evaluate = values.get("evaluate") or {}
        if not isinstance(evaluate, dict):
            return values
        filled = {"models": ["student_before", "student_after"], **evaluate}
        if filled.get("max_tokens") is None:
            filled["max_tokens"] = 16384
        return {**values, "evaluate": filled}

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        """The rules between sections; each names its key first, as errors are shown."""
        both = {"student_before", "student_after"} <= set(self.evaluate.models)
        if self.evaluate.forgetting and not both:
            raise ValueError(
                "evaluate.models: name student_before and student_after: evaluate.forgetting "
                "compares the two"
            )
        for key, kind in self._kinds():
            if mistake := kind_mistake(kind, self.filter.verifiers):
                raise ValueError(f"{key}: {mistake}, under filter.verifiers")
        if not isinstance(self.generate, ImportTeacher):
            if not self.problems.train:
                raise ValueError("problems.train: name at least one source of problems")
            batch = isinstance(self.generate, ServedTeacher) and self.generate.batch
            if batch and "teacher" in self.evaluate.models:
                raise ValueError(
                    "evaluate.models: leave out teacher: with generate.batch it answers in batches "
                    "only, and there is none for the evaluation"
                )
            return self
        if self.problems.train:
            raise ValueError(
                "problems.train: leave it out: the traces that `generate` imports bring their "
                "problems"
            )
        if "teacher" in self.evaluate.models:
            raise ValueError(
                "evaluate.models: leave out teacher: traces are imported, and there is no model "
                "to ask"
            )
        return self

    def _kinds(self) -> Iterator[tuple[str, str]]:
        """The kinds of problems that the recipe names, after the key."""
        for split in ("train", "heldout"):
            for index, source in enumerate(getattr(self.problems, split)):
                if not isinstance(source, GymSource):
                    yield f"problems.{split}.{index}.kind", source.kind
        if isinstance(self.generate, ImportTeacher) and self.generate.kind is not None:
            yield "generate.kind", self.generate.kind
