from __future__ import annotations

import random
import statistics

import pytest

from generate.stopping import Rule, fixed, pass_rate, wanted

RULES = [
    fixed(1),
    fixed(4),
    Rule(min=1, max=8, until_correct=1),
    Rule(min=2, max=8, until_correct=2),
    Rule(min=2, max=16, until_correct=1, give_up=4),
    Rule(min=3, max=11, until_correct=3, step=3),
    Rule(min=4, max=12, until_correct=2, give_up=6, step=2),
]


def sampled(rule: Rule, chance: float, draw: random.Random) -> tuple[int, int]:
    """What the rule stops at, sampling a problem that is solved with this chance."""
    samples = correct = 0
    while (target := wanted(rule, samples, correct)) > samples:
        correct += sum(draw.random() < chance for _ in range(target - samples))
        samples = target
    return samples, correct


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("chance", [0.05, 0.5, 0.9])
def test_the_pass_rate_is_unbiased_under_the_stopping_rule(rule: Rule, chance: float) -> None:
    draw = random.Random(0)
    rates = []
    for _ in range(8_000):
        rate = pass_rate(rule, *sampled(rule, chance, draw))
        assert rate is not None
        rates.append(rate)
    error = statistics.pstdev(rates) / len(rates) ** 0.5
    assert abs(statistics.fmean(rates) - chance) < 4 * error + 1e-9


def test_the_plain_share_is_biased_where_the_estimate_is_not() -> None:
    rule, draw = Rule(min=1, max=16, until_correct=1), random.Random(0)
    found = [sampled(rule, 0.3, draw) for _ in range(8_000)]
    assert statistics.fmean(c / n for n, c in found) > 0.45


def test_known_forms_of_the_estimate() -> None:
    assert pass_rate(fixed(5), 5, 2) == pytest.approx(2 / 5)
    # Only until_correct stops it (max is far): (correct - 1) / (samples - 1).
    assert pass_rate(Rule(min=1, max=99, until_correct=3), 9, 3) == pytest.approx(2 / 8)
    assert pass_rate(Rule(min=1, max=8, until_correct=1), 1, 1) == 1
    assert pass_rate(Rule(min=1, max=8, until_correct=1), 8, 0) == 0
    assert pass_rate(Rule(min=1, max=8, until_correct=1), 5, 0) is None


def test_what_a_problem_gets_next() -> None:
    rule = Rule(min=2, max=9, until_correct=2, give_up=4, step=3)
    assert wanted(rule, 0, 0) == 2
    assert wanted(rule, 2, 2) == 2
    assert wanted(rule, 2, 1) == 5
    assert wanted(rule, 5, 0) == 5
    assert wanted(rule, 5, 1) == 8
    assert wanted(rule, 8, 1) == 9
    assert wanted(rule, 9, 1) == 9
