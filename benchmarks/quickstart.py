"""Time and memory of the quickstart: `python benchmarks/quickstart.py`.

Each repeat is a first run in an empty folder and a second one, in which all is reused; then the
time of `import tracestill` and `tracestill --help`. Writes benchmarks/results/quickstart.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
TRACESTILL = [sys.executable, "-m", "tracestill"]


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds, and the largest process's peak memory in GB, of a command and its children."""
    begin = time.monotonic()
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    # A process's usage holds the largest of the children that it waited for.
    _, status, usage = os.wait4(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"{command} failed"
    return time.monotonic() - begin, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    folder = ROOT / "runs" / "benchmark"
    rows: list[dict[str, Any]] = []
    for _ in range(arguments.repeats):
        shutil.rmtree(folder, ignore_errors=True)
        command = [*TRACESTILL, "run", "recipes/quickstart.yaml", "--out", str(folder)]
        first, memory = timed(command)
        second, _ = timed(command)
        summary = json.loads((folder / "summary.json").read_text())
        assert all(stage["reused"] for stage in summary["stages"])
        rates = {name: r["pass_at_1"] for name, r in summary["evaluate"].items()}
        rows.append({"first": first, "memory_gb": memory, "second": second, **rates})
        print({key: round(value, 3) for key, value in rows[-1].items()}, flush=True)
    light = {
        "import": [sys.executable, "-c", "import tracestill"],
        "help": [*TRACESTILL, "--help"],
    }
    startup = {
        name: statistics.median(timed(command)[0] for _ in range(5))
        for name, command in light.items()
    }
    print({name: round(value, 3) for name, value in startup.items()})
    medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    values = {"median": medians | startup, "repeats": rows, "provenance": provenance(0)}
    path = ROOT / "benchmarks" / "results" / "quickstart.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
