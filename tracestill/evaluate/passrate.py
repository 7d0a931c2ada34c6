"""pass@1 and its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from tracestill.records.figures import PassAt1

Z95 = 1.959963984540054


def pass_at_1(outcomes: Mapping[str, list[bool]]) -> PassAt1:
    """pass@1 of answers grouped by problem: the mean over problems of their share of right ones.

    The interval is Wilson's (1927), with the number of independent answers taken from the
    spread between problems, since answers to one problem are alike (Miller 2024, "Adding Error
    Bars to Evals", section 2.2): it lies between the number of problems and that of answers.

    Raises:
        ValueError: there is no answer.

    """
    groups = [marks for marks in outcomes.values() if marks]
    if not groups:
        raise ValueError("pass@1 needs at least one answer")
    means = [sum(marks) / len(marks) for marks in groups]
    problems, samples = len(groups), sum(len(marks) for marks in groups)
    rate = sum(means) / problems
    effective = float(problems)
    if problems > 1 and 0 < rate < 1:
        variance = sum((mean - rate) ** 2 for mean in means) / (problems - 1) / problems
        effective = min(max(rate * (1 - rate) / max(variance, 1e-12), problems), samples)
    low, high = wilson(rate, effective)
    return PassAt1(pass_at_1=rate, ci95=(low, high), problems=problems, samples=samples)


def wilson(rate: float, n: float) -> tuple[float, float]:
    """Wilson's 95% interval of a rate seen in `n` independent trials."""
    centre = rate + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def paired_difference(pairs: Sequence[tuple[float, float]]) -> tuple[float, tuple[float, float]]:
    """The mean difference of two models' pass rates on the same problems, first less second, and
    its 95% interval.

    `pairs` holds for each problem the share of right answers of each model. The interval is Wald's
    with two more problems, on one of which the models differ, half of it each way (Agresti and Min
    2005, "Simple improved confidence intervals for comparing matched proportions"). So also models
    that differ on no problem have an interval.

    Raises:
        ValueError: there is no pair.

    """
    if not pairs:
        raise ValueError("a difference needs at least one problem")
    apart = [ours - theirs for ours, theirs in pairs]
    n = len(apart) + 2
    centre = sum(apart) / n
    variance = (sum(each * each for each in apart) + 1) / n - centre**2
    half = Z95 * math.sqrt(variance / n)
    return sum(apart) / len(apart), (max(-1.0, centre - half), min(1.0, centre + half))


def by_problem(pairs: Iterable[tuple[str, bool]]) -> dict[str, list[bool]]:
    """(problem id, right) pairs as the outcomes of each problem."""
    outcomes: dict[str, list[bool]] = {}
    for problem, right in pairs:
        outcomes.setdefault(problem, []).append(right)
    return outcomes
