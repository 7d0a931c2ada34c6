"""The filter's steps. Each takes traces in order and yields a drop, with its reason, for those
that it does not let pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from filter.steps.contamination import contamination
from filter.steps.duplicates import exact_duplicates, near_duplicates
from filter.steps.policy import max_per_problem, max_traces, verdict
from filter.steps.usability import usable
from tracestill.recipe.filter import FilterSection
from tracestill.records import Drop, Problem, Trace, Verdict

FilterStep = Callable[[Iterable[Trace]], Iterable[Drop]]

__all__ = ["FilterStep", "build_steps"]


def build_steps(
    settings: FilterSection,
    problems: Mapping[str, Problem],
    heldout: Sequence[Problem],
    verdicts: Mapping[str, Verdict],
    *,
    needs_reasoning: bool = True,
) -> dict[str, FilterStep]:
    """The steps that the settings ask for, by name, in the order in which they run."""
    steps: dict[str, FilterStep] = {
        "finish": usable("finish"),
        "form": usable("form", needs_reasoning=needs_reasoning),
    }
    if settings.max_tokens is not None:
        steps["length"] = usable("length", settings.max_tokens, needs_reasoning=needs_reasoning)
    if settings.verify:
        steps["verify"] = verdict(verdicts, settings.keep)
    if settings.decontaminate is not None:
        steps["decontaminate"] = contamination(problems, heldout, settings.decontaminate.ngram)
    if settings.exact_duplicates:
        steps["exact_duplicates"] = exact_duplicates
    if settings.near_duplicates is not None:
        steps["near_duplicates"] = near_duplicates(settings.near_duplicates)
    if settings.max_per_problem is not None:
        steps["max_per_problem"] = max_per_problem(settings.max_per_problem)
    if settings.max_traces is not None:
        steps["max_traces"] = max_traces(settings.max_traces)
    return steps
