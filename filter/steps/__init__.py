"""The filter's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from filter.steps.contamination import contamination
from filter.steps.duplicates import ExactStep, NearStep
from filter.steps.selection import SelectStep
from filter.steps.step import GlobalStep, RowStep
from filter.steps.usability import form, length, verdict
from tracestill.recipe.filter_steps import Step
from tracestill.records import Verdict

__all__ = ["FilterStep", "build_step", "labels"]

FilterStep = RowStep | GlobalStep


def labels(steps: Sequence[Step]) -> list[str]:
    """The steps' names, with a number where one comes again."""
    names = [step.name for step in steps]
    made = []
    for place, name in enumerate(names):
        before = names[:place].count(name)
        made.append(f"{name} {before + 1}" if before else name)
    return made


def build_step(
    step: Step,
    *,
    needs_reasoning: bool,
    verdicts: Mapping[str, Verdict],
    contaminated: Mapping[str, str],
) -> FilterStep:
    """The step of a recipe's entry. `verdicts` are those of the traces that it will be asked about,
    by trace id; `contaminated` the contaminated problems (`contaminated_problems`).
    """
    if step.form is not None:
        return form(needs_reasoning=needs_reasoning)
    if step.length is not None:
        return length(step.length)
    if step.verify is not None:
        return verdict(verdicts, step.verify.keep)
    if step.contamination is not None:
        return contamination(contaminated)
    if step.exact is not None:
        return ExactStep(step.exact)
    if step.near is not None:
        return NearStep(step.near)
    assert step.select is not None, "a step has one name"
    return SelectStep(step.select)
