"""The filter's steps. Each takes traces in order, yields a drop with its reason for some, and
lets the others pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from filter.config import FilterSection
from filter.steps.contamination import contamination
from filter.steps.duplicates import exact_duplicates, near_duplicates
from filter.steps.form import finish, form, length
from filter.steps.policy import max_per_problem, max_traces, verdict
from tracestill.records import Drop, Problem, Trace, Verdict

Step = Callable[[Iterable[Trace]], Iterable[Drop]]

__all__ = ["Step", "build_steps"]


def build_steps(
    settings: FilterSection,
    problems: Mapping[str, Problem],
    heldout: Sequence[Problem],
    verdicts: Mapping[str, Verdict],
) -> dict[str, Step]:
    """The steps that the settings ask for, by name, in the order in which they run."""
    steps: dict[str, Step] = {"finish": finish, "form": form}
    if settings.max_tokens is not None:
        steps["length"] = length(settings.max_tokens)
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
