"""The recipe's section `filter`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from tracestill.recipe.filter_steps import DEFAULT, Step
from tracestill.recipe.models import LocalModel, ServedModel, engine_of
from tracestill.recipe.older_steps import with_steps, without_steps
from tracestill.recipe.rules import Rules, name_mistake, read_rules
from tracestill.recipe.sandbox import read_sandbox
from tracestill.recipe.section import Section
from tracestill.recipe.selection import Among, StudentSampling
from tracestill.recipe.yaml_values import read_yaml

SELECTIONS = Path(__file__).parents[2] / "recipes" / "selections"


class Agreement(Section):
    """Count the answer that most of a problem's samples give as right, where no rule decides."""

    samples: int = Field(default=4, ge=2)
    """The fewest samples of a problem."""
    share: float = Field(default=0.5, ge=0.5, lt=1)
    """The answer must be that of more than this share of them."""
    mend: bool = False
    """Count it as right too where the rules call it wrong and no sample of the problem matches the
    reference, which is then taken to be wrong. The table `mended` lists these problems."""


class _Judging(Section):
    """A judge's prompt and sampling."""

    template: str
    """The rubric (a .jinja file, relative to the recipe) with `problem`, `reference`, `answer`."""
    max_tokens: int = Field(default=4096, ge=1)
    """The longest reply, reasoning included."""
    temperature: float = Field(default=0.0, ge=0)
    """How freely tokens are drawn; 0 takes the likeliest."""


class LocalJudge(LocalModel, _Judging):
    """A language model that judges what no rule decides, run by vLLM in this process."""


class ServedJudge(ServedModel, _Judging):
    """A language model that judges what no rule decides, behind an endpoint."""


Judge = Annotated[
    Annotated[LocalJudge, Tag("vllm")] | Annotated[ServedJudge, Tag("openai")],
    Discriminator(engine_of),
]


def selections() -> dict[str, Path]:
    """The shipped selections by name."""
    return {path.stem: path for path in sorted(SELECTIONS.glob("*.yaml"))}


def _selection(name: Any) -> dict[str, Any]:
    there = selections()
    if name not in there:
        raise ValueError(f"selection: {name} is none of those shipped: {', '.join(there)}")
    said: dict[str, Any] = read_yaml(there[name].read_text(encoding="utf-8"))["filter"]
    return said


class FilterSection(Section):
    """Which traces are dropped, and why."""

    selection: str | None = Field(default=None, exclude=True)
    """The name of a selection in recipes/selections/, whose steps are taken, and what else it says
    of this section where the recipe says nothing. A resolved recipe has its steps instead."""
    steps: list[Step] = [Step.model_validate(name) for name in DEFAULT]
    """What is asked of a trace, in this order: the first step that it fails drops it."""
    agreement: Agreement | None = None
    """Settle what the rules leave open by the agreement of a problem's samples; null: don't."""
    judge: Judge | None = None
    """Settle it by a model; where the samples agree (`agreement`) too, both must say the same."""
    sandbox: str = "bubblewrap"
    """Where programs run, for the filter and the evaluation: `bubblewrap` on this machine, or a
    server: `piston=http://HOST:2000`, `sandboxfusion=http://HOST:8080`, `e2b`."""
    verifiers: dict[str, str] = Field(default_factory=dict)
    """Functions of your own, `FILE.py:FUNCTION` relative to the recipe, each under the kind of
    problems that it judges, for sampling, filter, training and evaluation."""
    student: StudentSampling = StudentSampling()
    """How the student is sampled where a step selects by its pass rate."""
    workers: int | None = Field(default=None, ge=1)
    """How many processes; null: one a core."""

    @model_validator(mode="before")
    @classmethod
    def _with_steps(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        named = values.get("selection")
        if named is not None:
            chosen = _selection(named)
            values = {**chosen, **without_steps(values), "steps": chosen["steps"]}
        return with_steps(values)

    @model_validator(mode="after")
    def _has_judge(self) -> Self:
        asking = [step.name for step in self.steps if step.action == "judge"]
        if asking and self.judge is None:
            raise ValueError(f"{asking[0]}: action: judge asks the model of filter.judge: name one")
        return self

    @property
    def confirms(self) -> bool:
        """Whether a step leaves to the judge what it finds."""
        return any(step.action == "judge" for step in self.steps)

    @field_validator("sandbox")
    @classmethod
    def _is_sandbox(cls, text: str) -> str:
        read_sandbox(text)
        return text

    @field_validator("verifiers")
    @classmethod
    def _name_kinds(cls, verifiers: dict[str, str]) -> dict[str, str]:
        for kind in verifiers:
            if mistake := name_mistake(kind):
                raise ValueError(mistake)
        return verifiers

    @property
    def rules(self) -> Rules:
        """By what answers are judged.

        Raises:
            ValueError: a function of `verifiers` is not there.

        """
        return read_rules(self.sandbox, self.verifiers)

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
        return sized or any(select.asks_student for select in selects)
