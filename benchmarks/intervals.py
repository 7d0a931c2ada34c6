"""How often the intervals of an evaluation hold the truth, and how often the paired test shows a
difference where there is none: `python -m benchmarks.intervals [--evaluations 2000]`.

Simulates evaluations whose problems' pass rates are drawn from a Beta distribution, of sizes from
AIME's (30 problems, 64 answers each) to MATH-500's. `wilson_plain` and `agresti_min` are the
methods that were used before: Wilson's interval with the normal quantile, and Agresti and Min's
with two problems that differ wholly, whatever the number of answers. Writes results/intervals.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracestill.evaluate.statistics import (
    Z95,
    cons_at_k,
    mean_rate,
    paired_difference,
    pass_at_k,
    wilson,
)
from tracestill.run.provenance import provenance

RESULT = Path(__file__).parent / "results" / "intervals.json"
SIZES = ((30, 64), (120, 1), (300, 4), (500, 4))
RATES = {"middling": (2.0, 3.0), "even": (1.0, 1.0), "all or nothing": (0.5, 0.5),
         "hard": (0.4, 3.0), "hardly ever": (0.2, 3.0), "easy": (6.0, 1.0)}  # fmt: skip
LESS = 0.8  # of the first model's pass rates, where the second is worse
Values = npt.NDArray[np.float64]


def _old_wilson(values: Values, samples: int) -> tuple[float, float]:
    rate, n = float(values.mean()), len(values)
    spread = float(values.var(ddof=1)) / n
    return wilson(rate, min(max(rate * (1 - rate) / max(spread, 1e-12), n), samples))


def _old_difference(apart: Values) -> tuple[float, float]:
    n = len(apart) + 2
    centre = float(apart.sum()) / n
    half = Z95 * math.sqrt(((float((apart**2).sum()) + 1) / n - centre**2) / n)
    return centre - half, centre + half


def simulate(
    a: float, b: float, problems: int, samples: int, evaluations: int, seed: int
) -> dict[str, float]:
    """The shares of `evaluations` in which each interval holds the truth, and in which the paired
    test shows a difference between two models with the same pass rates (`false_alarms`), or with
    one that has `LESS` of the other's (`found`).
    """
    rng = np.random.default_rng(seed)
    truth = a / (a + b)
    counts = dict.fromkeys(
        ("pass_at_1", "difference", "false_alarms", "found", "wilson_plain",
         "agresti_min", "agresti_min_false_alarms"), 0,
    )  # fmt: skip
    for _ in range(evaluations):
        rates = rng.beta(a, b, problems)
        first, same, worse = (
            rng.binomial(samples, rates * part) / samples for part in (1.0, 1.0, LESS)
        )
        interval = mean_rate(first.tolist(), problems * samples).ci95
        counts["pass_at_1"] += _holds(interval, truth)
        counts["wilson_plain"] += _holds(_old_wilson(first, problems * samples), truth)
        none = paired_difference(list(zip(first.tolist(), same.tolist(), strict=True)))
        some = paired_difference(list(zip(first.tolist(), worse.tolist(), strict=True)))
        counts["false_alarms"] += none.shown
        counts["found"] += some.shown
        counts["difference"] += _holds(some.ci95, truth * (1 - LESS))
        counts["agresti_min"] += _holds(_old_difference(first - worse), truth * (1 - LESS))
        counts["agresti_min_false_alarms"] += not _holds(_old_difference(first - same), 0.0)
    return {name: round(count / evaluations, 4) for name, count in counts.items()}


def simulate_votes(problems: int, samples: int, evaluations: int, seed: int) -> dict[str, float]:
    """The same for pass@k and cons@k with k as large as the samples, of rates from Beta(2, 3) and
    wrong answers that are all different; the truth is the mean of 400,000 problems.
    """
    rng = np.random.default_rng(seed)
    half = samples // 2

    def values(right: npt.NDArray[np.int64]) -> Values:
        # One right answer is in the lead from two on; with one, all are given once.
        alone = np.where(right == 1, 1 / samples, 0.0)
        return np.where(right > 1, 1.0, alone)

    def chances(right: npt.NDArray[np.int64]) -> Values:
        table = [1 - math.comb(samples - c, half) / math.comb(samples, half)
                 for c in range(samples + 1)]  # fmt: skip
        return np.array(table)[right]

    many = rng.binomial(samples, rng.beta(2, 3, 400_000))
    truths = {"cons_at_k": float(values(many).mean()), "pass_at_k": float(chances(many).mean())}
    counts = dict.fromkeys(truths, 0)
    for _ in range(evaluations):
        right = rng.binomial(samples, rng.beta(2, 3, problems)).tolist()
        marks = {str(n): [s < c for s in range(samples)] for n, c in enumerate(right)}
        votes = {
            name: [(mark, str(s)) for s, mark in enumerate(own)] for name, own in marks.items()
        }
        cons, chance = cons_at_k(votes), pass_at_k(marks, half)
        assert cons is not None
        assert chance is not None
        counts["cons_at_k"] += _holds(cons.ci95, truths["cons_at_k"])
        counts["pass_at_k"] += _holds(chance.ci95, truths["pass_at_k"])
    return {name: round(count / evaluations, 4) for name, count in counts.items()}


def _holds(interval: tuple[float, float], truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def main() -> None:
    """Simulate all sizes and rates, print the shares and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=2000)
    evaluations = parser.parse_args().evaluations
    begin = time.monotonic()
    rows: list[dict[str, Any]] = []
    for problems, samples in SIZES:
        for name, (a, b) in RATES.items():
            found = simulate(a, b, problems, samples, evaluations, seed=len(rows))
            rows.append({"problems": problems, "samples": samples, "rates": name, **found})
            print(rows[-1], flush=True)
    votes = [
        {"problems": n, "samples": m, **simulate_votes(n, m, evaluations // 4, seed=n)}
        for n, m in ((30, 64), (300, 4))
    ]
    print(votes)
    values = {
        "evaluations": evaluations, "beta": RATES, "rows": rows, "votes": votes,
        "seconds": round(time.monotonic() - begin), "provenance": provenance(0),
    }  # fmt: skip
    RESULT.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
