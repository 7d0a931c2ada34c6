"""The recipe's section `filter`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from tracestill.recipe.filter_steps import DEFAULT, Step, with_steps
from tracestill.recipe.models import LocalModel, ServedModel, engine_of
from tracestill.recipe.sandbox import read_sandbox
from tracestill.recipe.section import Section
from tracestill.recipe.selection import Among, StudentSampling


class Agreement(Section):
    """Count the answer that most of a problem's samples give as right, where no rule decides."""

    samples: int = Field(default=4, ge=2)
    """The fewest samples of a problem."""
    share: float = Field(default=0.5, ge=0.5, lt=1)
    """The answer must be that of more than this share of them."""


class _Judging(Section):
    """A judge's prompt and sampling."""

    template: str
    """The rubric (a .jinja file, relative to the recipe) with `problem`, `reference`, `answer`."""
    max_tokens: int = Field(default=4096, ge=1)
    """The longest reply, reasoning included."""
    temperature: float = Field(default=0.0, ge=0)


class LocalJudge(LocalModel, _Judging):
    """A language model that judges what no rule decides, run by vLLM in this process."""


class ServedJudge(ServedModel, _Judging):
    """A language model that judges what no rule decides, behind an endpoint."""


Judge = Annotated[
    Annotated[LocalJudge, Tag("vllm")] | Annotated[ServedJudge, Tag("openai")],
    Discriminator(engine_of),
]


class FilterSection(Section):
    """Which traces are dropped, and why."""

    steps: list[Step] = [Step.model_validate(name) for name in DEFAULT]
    """What is asked of a trace, in this order: the first step that it fails drops it."""
    agreement: Agreement | None = None
    """Settle what the rules leave open by the agreement of a problem's samples; null: don't."""
    judge: Judge | None = None
    """Settle it by a model; where the samples agree (`agreement`) too, both must say the same."""
    sandbox: str = "bubblewrap"
    """Where programs run, for the filter and the evaluation: `bubblewrap` on this machine, or a
    server: `piston=http://HOST:2000`, `sandboxfusion=http://HOST:8080`, `e2b`."""
    student: StudentSampling = StudentSampling()
    """How the student is sampled where a step selects by its pass rate."""
    workers: int | None = Field(default=None, ge=1)
    """How many processes; null: one a core."""

    @model_validator(mode="before")
    @classmethod
    def _with_steps(cls, values: Any) -> Any:
        return with_steps(values) if isinstance(values, dict) else values

    @field_validator("sandbox")
    @classmethod
    def _is_sandbox(cls, text: str) -> str:
        read_sandbox(text)
        return text

    @property
    def max_tokens(self) -> int | None:
        """The most completion tokens of a trace that is kept; None if there is no bound."""
        lengths = [step.length for step in self.steps if step.length]
        bounds = [one.most for one in lengths if one.count == "teacher"]
        return min((bound for bound in bounds if bound is not None), default=None)

    @property
    def max_per_problem(self) -> int | None:
        """The most traces of a problem that are kept; None if there is no bound."""
        selects = [step.select for step in self.steps if step.select]
        bounds = [one.per_problem for one in selects if one.among == Among()]
        return min((bound for bound in bounds if bound is not None), default=None)

    @property
    def asks_student(self) -> bool:
        """Whether a step depends on the student."""
        selects = [step.select for step in self.steps if step.select]
        sized = any(step.length.count == "student" for step in self.steps if step.length)
        return sized or any(s.scored or s.counted or s.by == "student_pass_rate" for s in selects)
