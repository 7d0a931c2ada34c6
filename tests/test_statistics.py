from __future__ import annotations

import itertools
import random

import pytest
from scipy import stats

from tracestill.evaluate.statistics import (
    by_problem,
    cons_at_k,
    mean_rate,
    paired_difference,
    pass_at_1,
    pass_at_k,
    t_p_value,
    t_quantile,
    wilson,
)


def test_pass_at_1_is_the_mean_over_problems() -> None:
    result = pass_at_1({"a": [True, True], "b": [False, True], "c": [False, False]})
    assert result.pass_at_1 == pytest.approx(0.5)
    assert (result.problems, result.samples) == (3, 6)


def test_the_interval_is_wilsons_where_each_problem_has_one_answer() -> None:
    result = pass_at_1({str(n): [n < 8] for n in range(10)})
    assert result.ci95 == pytest.approx([0.4901, 0.9433], abs=1e-3)  # Wilson's for 8 of 10


def test_answers_to_one_problem_do_not_narrow_the_interval_when_they_agree() -> None:
    once = pass_at_1({str(n): [n < 30] for n in range(60)})
    agreeing = pass_at_1({str(n): [n < 30] * 10 for n in range(60)})
    mixed = pass_at_1({str(n): [s < 5 for s in range(10)] for n in range(60)})
    width = lambda result: result.ci95[1] - result.ci95[0]  # noqa: E731
    assert width(agreeing) == pytest.approx(width(once), rel=0.02)
    assert width(mixed) < width(once) / 2


def test_intervals_hold_the_truth_and_no_difference_is_shown_where_there_is_none() -> None:
    """A small version of benchmarks/intervals.py."""
    rng = random.Random(0)
    for problems, samples in ((30, 16), (80, 1), (80, 3)):
        covered = alarms = 0
        for _ in range(400):
            chances = [rng.betavariate(2, 3) for _ in range(problems)]
            first, second = (
                [[rng.random() < p for _ in range(samples)] for p in chances] for _ in range(2)
            )
            low, high = pass_at_1({str(n): one for n, one in enumerate(first)}).ci95
            covered += low <= 0.4 <= high
            shares = [(sum(a) / samples, sum(b) / samples) for a, b in zip(first, second)]  # noqa: B905
            alarms += paired_difference(shares).shown
        assert 0.92 <= covered / 400 <= 0.98, (problems, samples)
        assert alarms / 400 <= 0.08, (problems, samples)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_ends_have_an_interval_too(rate: float) -> None:
    low, high = wilson(rate, 20)
    assert 0 <= low < high <= 1
    assert high - low > 0.1
    many = pass_at_1({str(n): [rate == 1.0] * 64 for n in range(20)})
    assert many.ci95 == pytest.approx((low, high))


def test_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        pass_at_1(by_problem([]))


@pytest.mark.parametrize(("right", "k"), [(0, 1), (1, 2), (2, 2), (3, 4), (6, 6)])
def test_pass_at_k_is_the_share_of_all_ways_to_take_k(right: int, k: int) -> None:
    marks = [n < right for n in range(6)]
    ways = list(itertools.combinations(marks, k))
    found = pass_at_k({"a": marks}, k)
    assert found is not None
    assert found.rate == pytest.approx(sum(map(any, ways)) / len(ways))
    assert pass_at_k({"a": marks}, 7) is None


def test_the_answer_that_most_samples_give_counts() -> None:
    cases = {
        "most are right": ([(True, "4"), (True, "4.0"), (False, "5")], 1.0),
        "most agree on a wrong one": ([(True, "4"), (False, "5"), (False, " 5 ")], 0.0),
        "wrong ones that differ have one vote each": (
            [(True, "4"), (True, "4"), (False, "5"), (False, "6"), (False, "7")], 1.0,
        ),
        "a tie is split": ([(True, "4"), (False, "5")], 0.5),
        "of three": ([(True, "4"), (False, "5"), (False, "6"), (False, None)], 1 / 3),
        "no answer has no vote": ([(True, "4"), (False, None), (False, None)], 1.0),
        "none at all": ([(False, None), (False, None)], 0.0),
    }  # fmt: skip
    for name, (samples, rate) in cases.items():
        found = cons_at_k({name: samples})
        assert found is not None
        assert found.rate == pytest.approx(rate), name


@pytest.mark.parametrize("degrees", [1, 1.6, 5, 29, 119])
def test_quantile_and_p_value_are_students(degrees: float) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)
    assert t_p_value(t_quantile(degrees), degrees) == pytest.approx(0.05)
    for t in (0.5, 1.5, 2.5):
        assert t_p_value(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), rel=1e-9)


def test_interval_and_p_value_of_a_difference_say_the_same() -> None:
    rng = random.Random(1)
    shown = 0
    for _ in range(300):
        n = rng.choice((5, 30, 120))
        pairs = [(rng.random() < 0.6, rng.random() < 0.45) for _ in range(n)]
        found = paired_difference([(float(a), float(b)) for a, b in pairs])
        assert found.shown == (found.p < 0.05)
        shown += found.shown
    assert 20 < shown < 280


def test_a_few_differences_that_point_one_way_show_nothing() -> None:
    same = [(1.0, 1.0)] * 116
    assert not paired_difference([*same, *[(1.0, 0.0)] * 4]).shown
    assert paired_difference([*same, *[(1.0, 0.0)] * 12]).shown


def test_a_rate_of_one_problem_tells_next_to_nothing() -> None:
    low, high = mean_rate([0.5], 64).ci95
    assert high - low > 0.8
