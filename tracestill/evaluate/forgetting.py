"""What a student still can of what it was not taught: the same problems before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracestill.evaluate.figures import figures_of, marks_of
from tracestill.evaluate.statistics import by_problem, paired_difference
from tracestill.records import Problem, Trace, Verdict, digest
from tracestill.records.figures import Forgetting

BEFORE, AFTER = "student_before", "student_after"

Judged = tuple[Sequence[Trace], Sequence[Verdict]]
"""A model's answers, and the verdicts on them without those to requests that failed."""


def drawn(problems: Sequence[Problem], count: int) -> list[Problem]:
    """At most `count` of the problems, in their order. A hash of its id decides on each, so that
    neither the order of rows nor another problem's text changes the draw.
    """
    if len(problems) <= count:
        return list(problems)
    chosen = sorted(problems, key=lambda one: digest("forgetting", one.id))[:count]
    ids = {one.id for one in chosen}
    return [one for one in problems if one.id in ids]


def forgetting(before: Judged, after: Judged, problems: Sequence[Problem]) -> Forgetting:
    """The figures of the student before and after its training, and the change of pass@1 over the
    problems that both answered, by the paired test of `paired_difference`.

    Raises:
        ValueError: there is no answer of one, or no problem that both answered.

    """
    ours, theirs = (by_problem(marks_of(*judged)) for judged in (after, before))
    both = sorted(ours.keys() & theirs.keys())
    return Forgetting(
        before=figures_of(*before, problems),
        after=figures_of(*after, problems),
        change=paired_difference([(_share(ours[p]), _share(theirs[p])) for p in both]),
    )


def _share(marks: Sequence[bool]) -> float:
    return sum(marks) / len(marks)


def change_of(one: Forgetting) -> str:
    """The change of pass@1 in points with its interval, and what it shows."""
    low, high = (f"{100 * end:+.1f}" for end in one.change.ci95)
    said = ("rose" if one.change.ci95[0] > 0 else "fell") if one.change.shown else ""
    points = f"{100 * one.change.difference:+.1f} points ({low} to {high})"
    return f"{points}, {said or 'no difference shown'}"


def warnings(found: Mapping[str, Forgetting]) -> list[str]:
    """A line for each benchmark on which the student is worse than before its training."""
    return [
        f"forgotten: on {name} the student fell from {one.before.pass_at_1:.1%} to "
        f"{one.after.pass_at_1:.1%}, {change_of(one).removesuffix(', fell')}"
        for name, one in found.items()
        if one.change.ci95[1] < 0
    ]
