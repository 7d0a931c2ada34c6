"""The filter's steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from filter.benchmarks import Finder
from filter.steps.contamination import contamination
from filter.steps.duplicates import ExactStep, NearStep
from filter.steps.language import language
from filter.steps.pattern import pattern
from filter.steps.private import private
from filter.steps.quality import quality
from filter.steps.refusal import refusal
from filter.steps.selection import SelectStep
from filter.steps.semantic import SemanticStep
from filter.steps.step import GlobalStep, RowStep, Student
from filter.steps.usability import form, length, verdict
from tracestill.recipe.filter_steps import Step
from tracestill.records import Verdict

__all__ = ["Facts", "FilterStep", "build_step", "labels"]

FilterStep = RowStep | GlobalStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What steps by row know: the verdicts of the traces by id, the contaminated problems by id
    (`contaminated_problems`), the languages of problems by id, where they are not English, the
    prompts by problem id that tell `refusal` or `private` something, the benchmarks that no trace
    may hold an item of, the tasks of problems by id, where a step goes by them, the problems in
    whose prompts the step's patterns are found (`matching`), and the student.
    """

    verdicts: Mapping[str, Verdict]
    contaminated: Mapping[str, str]
    languages: Mapping[str, str]
    prompts: Mapping[str, str]
    benchmarks: Finder | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)
    matching: Collection[str] = ()
    student: Student | None = None


NOTHING_KNOWN = Facts(verdicts={}, contaminated={}, languages={}, prompts={})


def labels(steps: Sequence[Step]) -> list[str]:
    """The steps' names, with a number where one comes again."""
    names = [step.name for step in steps]
    made = []
    for place, name in enumerate(names):
        before = names[:place].count(name)
        made.append(f"{name} {before + 1}" if before else name)
    return made


def build_step(step: Step, *, needs_reasoning: bool, known: Facts = NOTHING_KNOWN) -> FilterStep:
    """The step of a recipe's entry, with what it must know to be asked about traces by row."""
    if step.refusal is not None:
        return refusal(step.refusal, known.prompts)
    if step.form is not None:
        return form(needs_reasoning=needs_reasoning)
    if step.length is not None:
        return length(step.length, known.tasks, known.student)
    if step.pattern is not None:
        return pattern(step.pattern, known.matching)
    if step.verify is not None:
        return verdict(known.verdicts, step.verify.keep)
    if step.quality is not None:
        return quality(step.quality)
    if step.language is not None:
        return language(step.language, known.languages)
    if step.private is not None:
        return private(step.private, known.prompts)
    if step.contamination is not None:
        return contamination(known.contaminated, known.benchmarks)
    if step.exact is not None:
        return ExactStep(step.exact)
    if step.near is not None:
        return NearStep(step.near)
    if step.semantic is not None:
        return SemanticStep(step.semantic)
    assert step.select is not None, "a step has one name"
    return SelectStep(step.select)
