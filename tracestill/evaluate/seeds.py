"""A figure over seeds: its mean with an interval, and what a change of settings does to it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from tracestill.evaluate.statistics import t_quantile

FEW = 3  # below so many seeds an interval is too wide to tell anything

K = TypeVar("K", bound=Hashable)
Verdict = Literal["no difference shown", "higher", "lower", "not known"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSeeds:
    """The mean of one figure a seed, and its 95% interval; None with a single seed."""

    mean: float
    ci95: tuple[float, float] | None
    seeds: int

    @property
    def note(self) -> str:
        """What to know of the interval, or an empty string."""
        if self.ci95 is None:
            return "one seed: no interval"
        if self.seeds < FEW:
            return "two seeds: the interval is too wide to tell much"
        return ""

    @property
    def verdict(self) -> Verdict:
        """What a difference shows: nothing where its interval holds 0."""
        if self.ci95 is None:
            return "not known"
        low, high = self.ci95
        if low <= 0 <= high:
            return "no difference shown"
        return "higher" if low > 0 else "lower"


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """The mean of a value for each seed, with Student's t interval (two-sided, 95%).

    Raises:
        ValueError: there is no value.

    """
    if not values:
        raise ValueError("a mean over seeds needs at least one of them")
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return OverSeeds(mean=mean, ci95=None, seeds=1)
    half = t_quantile(n - 1) * statistics.stdev(values) / math.sqrt(n)
    return OverSeeds(mean=mean, ci95=(mean - half, mean + half), seeds=n)


def paired_effect(
    first: Mapping[tuple[int, K], float], other: Mapping[tuple[int, K], float]
) -> OverSeeds | None:
    """What another setting changes: the mean difference, other less first, of runs that are equal
    in all else. None where no run has its counterpart.

    Keys are a run's seed and all other settings. The differences of one seed are averaged first
    and the interval is over seeds: runs of one seed share the teacher's samples and the order of
    training, so their differences are not independent.
    """
    by_seed: dict[int, list[float]] = {}
    for key, value in first.items():
        if key in other:
            by_seed.setdefault(key[0], []).append(other[key] - value)
    if not by_seed:
        return None
    return over_seeds([statistics.fmean(by_seed[seed]) for seed in sorted(by_seed)])
