"""What verification gives the student: `python benchmarks/ablation_verification.py`.

For each seed the teacher is sampled once (the quickstart's recipe), and three students learn from
the same samples:

- `verified`: only traces whose answer is right;
- `unverified`: right or wrong, as many traces as `verified` has (the same budget of training);
- `all`: every whole trace, right or wrong (the same budget of sampling, more of training).

Writes benchmarks/results/ablation_verification.json; prints a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
ARMS = ("verified", "unverified", "all")


def run(folder: Path, seed: int, options: list[str]) -> dict[str, Any]:
    """Run the quickstart's recipe with some options; its summary."""
    sets = [f"seed={seed}", "evaluate.models=[student_after]", "report.traces=0", *options]
    command = [sys.executable, "-m", "tracestill", "run", str(ROOT / "recipes/quickstart.yaml")]
    subprocess.run(
        [*command, "--out", str(folder), "--quiet", "--to", "evaluate"]
        + [part for option in sets for part in ("--set", option)],
        check=True,
    )
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """The three arms of one seed: how many traces were trained on, and pass@1 with interval."""
    found: dict[str, Any] = {}
    for arm in ARMS:
        options = [] if arm == "verified" else ["filter.verify=false"]
        if arm == "unverified":
            options.append(f"filter.max_traces={found['verified']['traces']}")
        summary = run(folder, seed, options)
        result = summary["evaluate"]["student_after"]
        traces = next(s["rows_out"] for s in summary["stages"] if s["name"] == "filter")
        found[arm] = {"traces": traces, "pass_at_1": result["pass_at_1"], "ci95": result["ci95"]}
        print(f"seed {seed} {arm:<10} {traces:>5} traces  pass@1 {result['pass_at_1']:.1%}")
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "ablation")
    arguments = parser.parse_args()
    seeds = {
        str(seed): measure(arguments.runs / f"seed{seed}", seed) for seed in range(arguments.seeds)
    }
    medians = {
        arm: statistics.median(found[arm]["pass_at_1"] for found in seeds.values()) for arm in ARMS
    }
    print({arm: f"{value:.1%}" for arm, value in medians.items()})
    values = {"median_pass_at_1": medians, "seeds": seeds, "provenance": provenance(0)}
    path = ROOT / "benchmarks" / "results" / "ablation_verification.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
