"""Which of a problem's traces teach most: `python -m benchmarks.selection [--seeds 0 1 2 3 4]`.

Samples the miniature teacher eight times on each of the quickstart's problems. Then, for each order
and seed, takes one right trace of each problem by the order, of these at random as many as make
TOKENS tokens of the student, trains and evaluates. Times `tracestill score` on 2,000 traces before
that. Writes benchmarks/results/selection.json after each run, beside what seeds that are not asked
for gave before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.quickstart import ROOT, TRACESTILL, timed
from tracestill.records import read_manifest
from tracestill.records.figures import TrainingFigures
from tracestill.run.provenance import provenance

RUNS = ROOT / "runs"
BASE = RUNS / "selection"
RESULT = ROOT / "benchmarks" / "results" / "selection.json"
RECIPE = "recipes/quickstart.yaml"
ORDERS = ("random", "shortest", "longest", "rsr", "surprisal", "naturalness")
TOKENS = 60_000
_T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's, two-sided 95%, by number of seeds


def base() -> None:
    """Sample the teacher, if that is not done yet."""
    settings = ["generate.samples=8", "generate.temperature=1.0"]
    timed([*TRACESTILL, "generate", RECIPE, "--out", str(BASE), *_set(settings)])


def _set(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def score_seconds() -> float:
    """Wall seconds of scoring 2,000 traces, from an empty journal."""
    (BASE / "filter" / "scores.journal.jsonl").unlink(missing_ok=True)
    command = [*TRACESTILL, "score", RECIPE, "--out", str(BASE), "--traces", "2000", "--quiet"]
    return timed(command)[0]


def learnt(order: str, seed: int) -> dict[str, Any]:
    """Choose, train and evaluate once."""
    run = RUNS / f"selection-{order}-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    for stage in ("problems", "generate"):
        shutil.copytree(BASE / stage, run / stage, copy_function=os.link)
    steps = (
        f"[form, verify, exact, {{select: {{by: {order}, per_problem: 1, seed: {seed}}}}}, "
        f"{{select: {{by: random, seed: {seed}, tokens: {TOKENS}}}}}]"
    )
    settings = [
        "generate.samples=8", "generate.temperature=1.0", f"filter.steps={steps}",
        "evaluate.models=[student_after]",
    ]  # fmt: skip
    # The teacher's samples are those of the recipe's seed.
    command = [*TRACESTILL, "run", RECIPE, "--out", str(run), "--to", "evaluate", "--quiet"]
    timed([*command, *_set(settings)])
    summary = json.loads((run / "summary.json").read_text())
    manifest = read_manifest(run / "finetune")
    assert manifest is not None
    figures = manifest.figures
    assert isinstance(figures, TrainingFigures)
    result = summary["evaluate"]["student_after"]
    shutil.rmtree(run)
    return {
        "order": order, "seed": seed, "pass_at_1": result["pass_at_1"], "ci95": result["ci95"],
        "mean_tokens": result["mean_tokens"], "samples": figures.samples,
        "trained_tokens": figures.trained_tokens,
    }  # fmt: skip


def interval(values: Sequence[float]) -> list[float]:
    """The mean of a value over seeds, and its 95% interval by Student's t."""
    mean = statistics.mean(values)
    if len(values) not in _T:
        return [mean]
    half = _T[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return [mean, mean - half, mean + half]


def summed_up(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each order's pass@1 over seeds, and how much better rsr is, paired by seed."""
    by_order = {
        order: {row["seed"]: row["pass_at_1"] for row in rows if row["order"] == order}
        for order in ORDERS
    }
    ours = by_order["rsr"]
    return {
        "pass_at_1": {
            order: interval(list(own.values())) for order, own in by_order.items() if own
        },
        "rsr_less": {
            order: interval([ours[seed] - own[seed] for seed in own if seed in ours])
            for order, own in by_order.items()
            if order != "rsr" and own and set(own) & set(ours)
        },
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--orders", nargs="+", default=ORDERS, choices=ORDERS)
    asked = parser.parse_args()
    values = json.loads(RESULT.read_text()) if RESULT.exists() else {"runs": []}
    base()
    if "score_seconds_of_2000" not in values:
        values["score_seconds_of_2000"] = score_seconds()
    for seed in asked.seeds:
        for order in asked.orders:
            row = learnt(order, seed)
            print(row, flush=True)
            same = [one for one in values["runs"] if (one["order"], one["seed"]) != (order, seed)]
            values["runs"] = [*same, row]
            values |= summed_up(values["runs"])
            values["provenance"] = provenance(0)
            RESULT.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
