"""What an evaluation's answers say of a model, with 95% intervals clustered by problem.

Answers to one problem are alike, so a problem is what is drawn at random, not an answer: each rate
here is a mean over problems of a value in [0, 1], and its interval comes from how these values
differ (Miller 2024, "Adding Error Bars to Evals", section 2.2).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tracestill.records.rates import Difference, PassAt1, Rate

Z95 = 1.959963984540054
_TINY = 1e-12


def by_problem(pairs: Iterable[tuple[str, bool]]) -> dict[str, list[bool]]:
    """(problem id, right) pairs as the outcomes of each problem."""
    outcomes: dict[str, list[bool]] = {}
    for problem, right in pairs:
        outcomes.setdefault(problem, []).append(right)
    return outcomes


def pass_at_1(outcomes: Mapping[str, Sequence[bool]]) -> PassAt1:
    """pass@1 of answers grouped by problem: the mean over problems of their share of right ones.
    Its interval is that of `mean_rate`.

    Raises:
        ValueError: there is no answer.

    """
    groups = [marks for marks in outcomes.values() if marks]
    if not groups:
        raise ValueError("pass@1 needs at least one answer")
    samples = sum(map(len, groups))
    found = mean_rate([sum(marks) / len(marks) for marks in groups], samples)
    return PassAt1(pass_at_1=found.rate, ci95=found.ci95, problems=found.problems, samples=samples)


def pass_at_k(outcomes: Mapping[str, Sequence[bool]], k: int) -> Rate | None:
    """The chance that one of `k` answers is right, without bias: of `n` answers to a problem of
    which `c` are right, 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, "Evaluating Large Language
    Models Trained on Code", section 2.1). Problems with fewer than `k` answers are left out; None
    if that leaves none.
    """
    groups = [marks for marks in outcomes.values() if len(marks) >= k]
    if not groups:
        return None
    values = [1 - math.comb(len(m) - sum(m), k) / math.comb(len(m), k) for m in groups]
    # It takes k answers to see once whether one of k is right.
    return mean_rate(values, sum(map(len, groups)) // k)


def cons_at_k(votes: Mapping[str, Sequence[tuple[bool, str | None]]]) -> Rate | None:
    """How often the answer that most samples of a problem give is right (Wang et al. 2022,
    "Self-Consistency Improves Chain of Thought Reasoning in Language Models"). Where several are
    given as often, each counts for its part.

    `votes` hold for each sample whether it is right and the answer that was found in it. Right ones
    are one answer, however they are written; wrong ones are told apart by their text. Samples
    without an answer don't vote; a problem without any vote counts as wrong. None without a
    problem.
    """
    values = [_majority(samples) for samples in votes.values() if samples]
    return mean_rate(values) if values else None


def _majority(samples: Sequence[tuple[bool, str | None]]) -> float:
    counts = Counter(
        (right, "" if right or said is None else " ".join(said.split()))
        for right, said in samples
        if right or said is not None
    )
    if not counts:
        return 0.0
    most = max(counts.values())
    first = [right for (right, _), count in counts.items() if count == most]
    return sum(first) / len(first)


def mean_rate(values: Sequence[float], trials: int = 0) -> Rate:
    """The mean of problems' values in [0, 1], with its 95% interval. Each value is the share of
    successes among some trials of its problem, of which there are `trials` in all (at least one a
    problem).

    The interval is Wilson's (1927), with the number of independent answers taken from the spread
    between problems; it lies between the number of problems and that of trials. So the rates 0 and
    1 have an interval too, as wide as if each problem had one trial: that all problems seen are
    solved says no more of others. Where the spread is estimated, the quantile is Student's, with
    fewer degrees of freedom the more the spread hangs on a few problems (`degrees_of`): with the
    normal quantile the intervals of 30 problems hold the truth in 92 to 95% of evaluations instead
    of 93 to 97% (`benchmarks/intervals.py`).

    Raises:
        ValueError: there is no value.

    """
    if not values:
        raise ValueError("a rate needs at least one problem")
    found = np.asarray(values, dtype=float)
    problems, rate = len(found), float(found.mean())
    effective, quantile = float(problems), Z95
    # Values of 0 and 1 alone have no spread of their own: the rate decides it.
    between = problems > 1 and _TINY < rate < 1 - _TINY and bool(np.any((found > 0) & (found < 1)))
    if between:
        variance = float(found.var(ddof=1)) / problems
        most = max(trials, problems)
        effective = min(max(rate * (1 - rate) / max(variance, _TINY), problems), most)
        quantile = t_quantile(degrees_of(found))
    return Rate(rate=rate, ci95=wilson(rate, effective, quantile), problems=problems)


def wilson(rate: float, n: float, quantile: float = Z95) -> tuple[float, float]:
    """Wilson's 95% interval of a rate seen in `n` independent trials."""
    square = quantile**2
    centre = rate + square / (2 * n)
    half = quantile * math.sqrt(max(rate * (1 - rate), 0.0) / n + square / (4 * n * n))
    scale = 1 + square / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def paired_difference(pairs: Sequence[tuple[float, float]]) -> Difference:
    """The mean difference of two models' values on the same problems, first less second, with its
    95% interval and the p value of a two-sided test that there is none.

    `pairs` holds for each problem the value in [0, 1] of each model. It is the paired t test with
    two more problems, on one of which the models differ as much as they do where they differ
    (where they never do: wholly), half of it each way. For one answer a problem these are the two
    problems of Agresti and Min (2005, "Simple improved confidence intervals for comparing matched
    proportions"), without which few differences that happen to point one way would count as shown.
    Interval and p value come from the same statistic: p is below 0.05 just where the interval
    leaves out 0.

    Raises:
        ValueError: there is no pair.

    """
    if not pairs:
        raise ValueError("a difference needs at least one problem")
    apart = np.array([ours - theirs for ours, theirs in pairs], dtype=float)
    squares = apart**2
    differing = squares[squares > _TINY]
    typical = float(differing.mean()) if len(differing) else 1.0
    n = len(apart) + 2
    centre = float(apart.sum()) / n
    variance = (float(squares.sum()) + typical - n * centre**2) / (n - 1)
    error = math.sqrt(max(variance, _TINY) / n)
    degrees = degrees_of(apart)
    half = t_quantile(degrees) * error
    return Difference(
        difference=float(apart.mean()),
        ci95=(max(-1.0, centre - half), min(1.0, centre + half)),
        p=t_p_value(centre / error, degrees),
        problems=len(apart),
    )


def degrees_of(values: npt.NDArray[np.float64]) -> float:
    """The degrees of freedom with which the variance of so many values is known: n - 1, or fewer
    where their kurtosis is above the normal distribution's, as where most problems are never solved
    and a few always (O'Neill 2014, "Some useful moment results in sampling problems").
    """
    n = len(values)
    if n < 4:
        return max(n - 1.0, 1.0)
    from_mean = values - values.mean()
    square = float((from_mean**2).mean())
    if square < _TINY:
        return n - 1.0
    kurtosis = float((from_mean**4).mean()) / square**2
    excess = kurtosis - (n - 3) / (n - 1)
    return max(min(2 * n / excess, n - 1.0), 1.0) if excess > 0 else n - 1.0


def t_quantile(degrees: float) -> float:
    """Student's quantile for two-sided 95%; `degrees` of freedom need not be whole."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def t_p_value(t: float, degrees: float) -> float:
    """The two-sided p value of Student's `t`."""
    from scipy.special import stdtr

    return 2 * float(stdtr(degrees, -abs(t)))
