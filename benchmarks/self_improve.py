"""Whether rounds help: `python -m benchmarks.self_improve [--seeds 0 1 2 3 4] [--rounds 2]`.

Runs recipes/self-improve.yaml whole for each seed, from an empty folder, and writes
benchmarks/results/self-improve.json after each: pass@1 of each round's student, and how much the
second is right more often than the first, paired by seed.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.quickstart import ROOT, TRACESTILL, timed
from tracestill.evaluate.seeds import over_seeds
from tracestill.run.provenance import provenance
from tracestill.run.rounds import ROUNDS

RESULTS = ROOT / "benchmarks" / "results" / "self-improve.json"


def _run(seed: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Minutes and the rounds of one seed."""
    run = folder / f"self-improve-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    command = [*TRACESTILL, "run", "recipes/self-improve.yaml", "--out", str(run)]
    command += ["--set", f"seed={seed}", "--set", f"rounds.count={rounds}"]
    seconds, _ = timed(command)
    return {
        "seed": seed,
        "minutes": seconds / 60,
        "rounds": json.loads((run / ROUNDS).read_text()),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs")
    asked = parser.parse_args()
    rows = json.loads(RESULTS.read_text())["seeds"] if RESULTS.exists() else []
    for seed in asked.seeds:
        row = _run(seed, asked.rounds, asked.folder)
        rows = sorted(
            [*(one for one in rows if one["seed"] != seed), row], key=lambda one: one["seed"]
        )
        both = [[one["pass_at_1"] for one in row["rounds"][:2]] for row in rows]
        values = {
            "first": asdict(over_seeds([first for first, _ in both])),
            "second": asdict(over_seeds([second for _, second in both])),
            "gain": asdict(over_seeds([second - first for first, second in both])),
            "seeds": rows,
            "provenance": provenance(0),
        }
        print(seed, [round(rate, 3) for rate in both[-1]], values["gain"], flush=True)
        RESULTS.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
