"""What the steps must know of the problems, found out once for all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from filter.benchmarks import Finder, described
from filter.steps.contamination import contaminated_problems
from filter.steps.pattern import problems_with
from filter.steps.private import tells as private_tells
from filter.steps.refusal import tells as refusal_tells
from filter.steps.step import ProblemFacts
from tracestill.recipe.filter import FilterSection
from tracestill.records import Problem


def facts_of(
    settings: FilterSection,
    problems: Mapping[str, Problem],
    heldout: Sequence[Problem],
    benchmarks: Finder | None,
    renumbered: float | None,
) -> ProblemFacts:
    """Find out what the steps of the settings need."""
    every = problems.values()
    by_task = any(step.length and step.length.sources for step in settings.steps)
    return ProblemFacts(
        contaminated=_contaminated(settings, problems, heldout, benchmarks, renumbered),
        matching={
            number: problems_with(step.pattern, every)
            for number, step in enumerate(settings.steps)
            if step.pattern is not None and step.pattern.on == "prompt"
        },
        languages={one.id: one.language for one in every if one.language != "en"},
        tasks={one.id: one.task for one in every} if by_task else {},
        prompts=_telling(settings, problems),
        benchmarks=benchmarks,
    )


def _contaminated(
    settings: FilterSection,
    problems: Mapping[str, Problem],
    heldout: Sequence[Problem],
    benchmarks: Finder | None,
    renumbered: float | None,
) -> dict[int, dict[str, str]]:
    """For each step of that name the contaminated problems."""
    if not any(step.contamination for step in settings.steps):
        return {}
    held: dict[str, str] = {}
    if benchmarks is not None:
        prompts = [problem.prompt for problem in problems.values()]
        matches = benchmarks.matches(list(problems), prompts, renumbered=renumbered)
        held = {match.id: described(match) for match in matches if match is not None}
    return {
        number: held | contaminated_problems(problems.values(), heldout, step.contamination.ngram)
        for number, step in enumerate(settings.steps)
        if step.contamination is not None
    }


def _telling(settings: FilterSection, problems: Mapping[str, Problem]) -> dict[str, str]:
    """The prompts that tell a step something of their traces."""
    asked: list[Callable[[str], bool]] = []
    for step in settings.steps:
        if step.refusal is not None:
            asked.append(refusal_tells)
        elif step.private is not None:
            asked.append(private_tells(step.private))
    return {
        problem.id: problem.prompt
        for problem in problems.values()
        if any(tells(problem.prompt) for tells in asked)
    }
