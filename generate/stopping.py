"""When a problem has enough samples, and what its pass rate is under such a rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import comb


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A problem gets `min` samples, then `step` more at a time until `until_correct` of them are
    correct, `max` are there, or none among `give_up` was. Without `until_correct` it gets `max`.
    """

    min: int
    max: int
    until_correct: int | None = None
    give_up: int | None = None
    step: int = 1


def fixed(samples: int) -> Rule:
    """The rule by which every problem gets the same number of samples."""
    return Rule(min=samples, max=samples)


def wanted(rule: Rule, samples: int, correct: int) -> int:
    """How many samples a problem should have next, given the number it has, all of them judged,
    and how many of those are correct: the same number where the rule stops.
    """
    if samples < rule.min:
        return rule.min
    enough = rule.until_correct is not None and correct >= rule.until_correct
    hopeless = rule.give_up is not None and correct == 0 and samples >= rule.give_up
    if enough or hopeless or samples >= rule.max:
        return samples
    return min(samples + rule.step, rule.max)


def pass_rate(rule: Rule, samples: int, correct: int) -> float | None:
    """An unbiased estimate of the chance that one sample of a problem is correct, from what the
    rule stopped at; None where it does not stop there.

    The share of correct samples overstates it where sampling stops at a correct one. Of all
    orders of correct and incorrect samples in which the rule would have stopped with these
    numbers, each is as likely as the others; the estimate is the share of them that begin with a
    correct one (Girshick, Mosteller and Savage, "Unbiased estimates for certain binomial sampling
    problems", 1946). With a fixed number it is the plain share; where only `until_correct` stops
    it, it is (correct - 1) / (samples - 1) (Haldane, 1945).
    """
    orders, begun = _orders(rule).get((samples, correct), (0, 0))
    return begun / orders if orders else None


@cache
def _orders(rule: Rule) -> dict[tuple[int, int], tuple[int, int]]:
    """For each number of samples and of correct ones at which the rule stops: in how many orders
    that comes about, and how many of them begin with a correct one.
    """
    first = rule.min
    states = {
        (first, c): (comb(first, c), comb(first - 1, c - 1) if c else 0) for c in range(first + 1)
    }
    stops: dict[tuple[int, int], tuple[int, int]] = {}
    while states:
        following: dict[tuple[int, int], tuple[int, int]] = {}
        for (n, c), (orders, begun) in states.items():
            more = wanted(rule, n, c) - n
            if not more:
                stops[n, c] = (orders, begun)
                continue
            for found in range(more + 1):
                key, ways = (n + more, c + found), comb(more, found)
                old = following.get(key, (0, 0))
                following[key] = (old[0] + ways * orders, old[1] + ways * begun)
        states = following
    return stops
