"""Rates and differences with their 95% intervals, as evaluations tell them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PassAt1:
    """pass@1 in [0, 1] with its 95% interval, of so many answers to so many problems."""

    pass_at_1: float
    ci95: tuple[float, float]
    problems: int
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A mean over problems, in [0, 1], with its 95% interval."""

    rate: float
    ci95: tuple[float, float]
    problems: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """By how much two models differ on the same problems: the mean, its 95% interval, and the p
    value of a two-sided test that they don't.
    """

    difference: float
    ci95: tuple[float, float]
    p: float
    problems: int

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.ci95[0] > 0 or self.ci95[1] < 0
