"""SmolLM2-135M on a CPU, before and after: `python -m benchmarks.smollm2 [RECIPE] [--seeds 0 1 2]`.

Runs recipes/RECIPE.yaml (`smollm2-135m-cpu`, by default, or `gsm8k-smollm2`) whole for each seed,
from an empty folder, with the student that `make real-models` fetched. Writes
benchmarks/results/RECIPE.json after each seed, beside what seeds that are not asked for gave
before. The seed orders and initialises the training and seeds the teacher's sampling; the problems
are the same.

Without a hub, GSM8K is its test set, split by problem: `--gsm8k FILE` has a row for each problem
with `question`, `ground_truth`, and solutions of models (`solution`). A quarter of the problems is
held out, the others' solutions are verified and learnt.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import yaml

from benchmarks.quickstart import ROOT, TRACESTILL, timed
from tests.real_models import SMOLLM2, folder, make
from tracestill.run.provenance import provenance

RUNS = ROOT / "runs"


def _run(recipe: Path, name: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """The whole line with one seed: minutes, seconds of each stage, and each model's result."""
    run = RUNS / f"{name}-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    command = [*TRACESTILL, "run", str(recipe), "--out", str(run)]
    for setting in [f"seed={seed}", f"finetune.student={folder(SMOLLM2)}", *settings]:
        command += ["--set", setting]
    wall, memory = timed(command)
    summary = json.loads((run / "summary.json").read_text())
    return {
        "seed": seed, "settings": settings, "minutes": wall / 60, "memory_gb": memory,
        "seconds": {stage["name"]: stage["seconds"] for stage in summary["stages"]},
        "rows": {stage["name"]: stage["rows_out"] for stage in summary["stages"]},
        "evaluate": summary["evaluate"],
    }  # fmt: skip


def _gsm8k(source: Path) -> Path:
    """A recipe like gsm8k-smollm2 that reads a file's problems and solutions instead of the hub."""
    RUNS.mkdir(exist_ok=True)
    solutions = RUNS / "gsm8k-solutions.jsonl"
    with solutions.open("w") as file:
        for line in source.read_text().splitlines():
            row = json.loads(line)
            models = [value["solution"] for value in row.values() if isinstance(value, dict)]
            for response in dict.fromkeys([row["ground_truth"], *models]):
                made = {
                    "question": row["question"], "answer": response, "truth": row["ground_truth"],
                }  # fmt: skip
                file.write(json.dumps(made) + "\n")
    heldout = {
        "source": "file", "path": str(solutions), "buckets": {"of": 4, "keep": [0]},
        "columns": {"prompt": "question", "reference": "truth"},
    }  # fmt: skip
    recipe = {
        "extends": str(ROOT / "recipes" / "gsm8k-smollm2.yaml"),
        "problems": {"heldout": [heldout]},
        "generate": {
            "path": str(solutions), "dataset": None, "config": None, "split": None,
            "columns": {"prompt": "question", "response": "answer", "reference": "truth"},
        },
    }  # fmt: skip
    path = RUNS / "gsm8k-smollm2.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="smollm2-135m-cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--gsm8k", type=Path, help="FILE of GSM8K's problems with solutions")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="another file for the results")
    asked = parser.parse_args()
    make(SMOLLM2)
    recipe = _gsm8k(asked.gsm8k) if asked.gsm8k else ROOT / "recipes" / f"{asked.recipe}.yaml"
    out = asked.out or ROOT / "benchmarks" / "results" / f"{asked.recipe}.json"
    rows = json.loads(out.read_text())["seeds"] if out.exists() else []
    for seed in asked.seeds:
        row = _run(recipe, asked.recipe, seed, asked.settings)
        rows = [*(one for one in rows if one["seed"] != seed), row]
        values = {
            "median": {
                name: statistics.median(one["evaluate"][name]["pass_at_1"] for one in rows)
                for name in row["evaluate"]
            },
            "minutes": statistics.median(one["minutes"] for one in rows),
            "seeds": rows,
            "provenance": provenance(0),
        }
        print({key: values[key] for key in ("median", "minutes")}, flush=True)
        out.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
