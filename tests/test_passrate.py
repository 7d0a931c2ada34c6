from __future__ import annotations

import random

import pytest

from tracestill.evaluate.passrate import by_problem, pass_at_1, wilson


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


def test_the_interval_covers_the_truth_in_about_19_of_20_evaluations() -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(400):
        chances = [rng.betavariate(2, 3) for _ in range(80)]
        outcomes = {str(i): [rng.random() < p for _ in range(3)] for i, p in enumerate(chances)}
        low, high = pass_at_1(outcomes).ci95
        covered += low <= 0.4 <= high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_ends_have_an_interval_too(rate: float) -> None:
    low, high = wilson(rate, 20)
    assert 0 <= low < high <= 1
    assert high - low > 0.1


def test_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        pass_at_1(by_problem([]))
