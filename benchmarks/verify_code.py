"""The rows of benchmarks/verify.py that concern programs."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filter.verify.code import code
from filter.verify.judgement import Verifier
from tracestill.records import Problem

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from escapes import problem, programs  # noqa: E402

PRINTS = "print(sum(map(int, input().split())))"


def humaneval(path: Path, judge: Verifier) -> dict[str, Any]:
    """How many of HumanEval's own solutions are correct, and of those without a body."""
    with gzip.open(path) as file:
        rows = [json.loads(line) for line in file]
    counts = {"problems": len(rows), "canonical_correct": 0, "pass_correct": 0}
    seconds = []
    for row in rows:
        tests = json.dumps({"test": row["test"], "entry_point": row["entry_point"]})
        task = Problem(
            id=row["task_id"],
            prompt=row["prompt"],
            reference=tests,
            kind="code",
            source="HumanEval",
        )
        begin = time.perf_counter()
        counts["canonical_correct"] += judge(task, row["canonical_solution"]).outcome == "correct"
        seconds.append(time.perf_counter() - begin)
        counts["pass_correct"] += judge(task, "    pass\n").outcome == "correct"
    return {**counts, "median_ms": round(1000 * statistics.median(seconds), 2)}


def escapes() -> dict[str, Any]:
    """What came of the programs that try to escape, each given one second."""
    judge = code(1.0)
    outcomes: dict[str, int] = {}
    escaped, longest = 0, 0.0
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        file = Path(folder, "secret.txt")
        file.write_text(f"SECRET-{secrets.token_hex(16)}")
        given = {"port": server.getsockname()[1], "file": str(file), "pid": os.getpid()}
        judge(problem("check", given, "x"), "def f(given):\n    return 1")  # starts the cages
        for row in programs():
            task = problem(row["shape"], given, f"SECRET-{secrets.token_hex(16)}")
            begin = time.perf_counter()
            verdict = judge(task, f"```python\n{row['source']}```")
            longest = max(longest, time.perf_counter() - begin)
            outcomes[verdict.outcome] = outcomes.get(verdict.outcome, 0) + 1
            escaped += "ESCAPED" in verdict.detail
    return {
        "programs": sum(outcomes.values()),
        "outcomes": outcomes,
        "escaped": escaped,
        "limit_s": 1.0,
        "longest_s": round(longest, 3),
    }


def timings(rounds: int) -> dict[str, Any]:
    """Milliseconds per program, each way in turn."""
    judge = code(5.0)
    tests = json.dumps({"inputs": ["1 2"], "outputs": ["3"]})
    task = Problem(id="p", prompt="?", reference=tests, kind="code", source="test")
    python = [sys.executable, "-c", PRINTS]
    bound = [part for path in {sys.base_prefix, sys.prefix} for part in ("--ro-bind", path, path)]
    cold = [
        *("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"),
        *("--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"),
        *(
            "--symlink",
            "usr/lib64",
            "/lib64",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
        ),
        *bound,
        *python,
    ]

    def caged() -> None:
        assert judge(task, f"```python\n{PRINTS}\n```").outcome == "correct"

    def process(command: list[str]) -> Callable[[], None]:
        def run() -> None:
            done = subprocess.run(command, input=b"1 2", capture_output=True, check=True)
            assert done.stdout == b"3\n"

        return run

    ways = {"warm_cage": caged, "cold_bwrap": process(cold), "plain_python": process(python)}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, run in ways.items():
            begin = time.perf_counter()
            run()
            taken[name].append(1000 * (time.perf_counter() - begin))
    return {
        name: {
            "median_ms": round(statistics.median(times[1:]), 2),  # the first starts the cage
            "p90_ms": round(statistics.quantiles(times[1:], n=10)[-1], 2),
            "first_ms": round(times[0], 2),
            "rounds": rounds,
        }
        for name, times in taken.items()
    }
