"""The filter's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from filter.steps.contamination import contamination
from filter.steps.duplicates import ExactStep, NearStep
from filter.steps.language import language
from filter.steps.pattern import pattern
from filter.steps.private import private
from filter.steps.quality import quality
from filter.steps.refusal import refusal
from filter.steps.selection import SelectStep
from filter.steps.semantic import SemanticStep
from filter.steps.step import GlobalStep, ProblemFacts, RowStep, Student
from filter.steps.usability import form, length, verdict
from tracestill.recipe.filter_steps import Step
from tracestill.records import Verdict

__all__ = ["Facts", "FilterStep", "build_step", "labels"]

FilterStep = RowStep | GlobalStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What steps by row know: of the problems, verdicts by trace id, and the student."""

    problems: ProblemFacts = field(default_factory=ProblemFacts)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    student: Student | None = None


def labels(steps: Sequence[Step]) -> list[str]:
    """The steps' names, with a number where one comes again."""
    names = [step.name for step in steps]
    made = []
    for place, name in enumerate(names):
        before = names[:place].count(name)
        made.append(f"{name} {before + 1}" if before else name)
    return made


def build_step(
    step: Step, number: int, *, needs_reasoning: bool, facts: Facts | None = None
) -> FilterStep:
    """The step of a recipe's entry with this number; by row it can be asked where it is given the
    facts.
    """
    facts = facts or Facts()
    known = facts.problems
    if step.refusal is not None:
        return refusal(step.refusal, known.prompts)
    if step.form is not None:
        return form(needs_reasoning=needs_reasoning)
    if step.length is not None:
        return length(step.length, known.tasks, facts.student)
    if step.pattern is not None:
        return pattern(step.pattern, known.matching.get(number, ()))
    if step.verify is not None:
        return verdict(facts.verdicts, step.verify.keep)
    if step.quality is not None:
        return quality(step.quality)
    if step.language is not None:
        return language(step.language, known.languages)
    if step.private is not None:
        return private(step.private, known.prompts)
    if step.contamination is not None:
        return contamination(known.contaminated.get(number, {}), known.benchmarks)
    if step.exact is not None:
        return ExactStep(step.exact)
    if step.near is not None:
        return NearStep(step.near)
    if step.semantic is not None:
        return SemanticStep(step.semantic)
    assert step.select is not None, "a step has one name"
    return SelectStep(step.select)
