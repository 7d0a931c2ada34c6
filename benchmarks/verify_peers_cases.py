"""The judge on the test cases of other projects' graders, beside those graders themselves:
`python benchmarks/verify_peers_cases.py --lighteval DIR --nemo-skills DIR`.

DIR are checkouts; nothing of them is kept but numbers. `--lighteval-python` and
`--nemo-skills-python` name the Python with the peer's requirements and pytest, by default this one.
What a test expects is not always so: `verify_peers_truth.yaml` says of which cases, and why. Writes
benchmarks/results/verify_peers_cases.json.

What the peer requires must be installed beside pytest: lighteval itself (`pip install DIR`), for
NeMo-Skills math-verify and fire.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from filter.verify import Answer, verify_many
from tracestill.records import Problem
from tracestill.run.provenance import provenance

HERE = Path(__file__).parent
Row = dict[str, Any]
WHO = ("ours", "peer")


def cases(peer: str, checkout: Path, python: str) -> tuple[list[Row], dict[str, str]]:
    """A peer's cases, each with a name of its own: the test's and its number there; and the
    versions of what the peer grades with.
    """
    command = [python, str(HERE / "peer_cases.py"), peer, str(checkout)]
    told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found: list[Row] = told["cases"]
    counts: Counter[str] = Counter()
    for case in found:
        case["name"] = f"{case['from']}:{counts[case['from']]}"
        counts[case["from"]] += 1
    return found, told["versions"]


def judged(found: list[Row]) -> list[Row]:
    """The cases with what ours makes of them: whether they are correct, and why."""
    answers = [
        Answer(
            problem=Problem(
                id=case["name"],
                prompt=case.get("prompt", "?"),
                reference=case["reference"],
                kind=case["kind"],
                source="peer",
            ),
            text=case["answer"],
            trace_id=case["name"],
        )
        for case in found
    ]
    verdicts = verify_many(answers)
    return [
        {**case, "ours": verdict.outcome == "correct", "outcome": verdict.outcome,
         "extracted": verdict.extracted, "detail": verdict.detail}
        for case, verdict in zip(found, verdicts, strict=True)
    ]  # fmt: skip


def compared(rows: list[Row], mistaken: dict[str, str], ours: dict[str, str]) -> Row:
    """How many are right, as the peer expects them and in truth, and what differs, with reasons."""
    reasons = {**mistaken, **ours}
    unknown = reasons.keys() - {row["name"] for row in rows}
    if unknown:
        raise SystemExit(f"no such cases, so another revision than was read: {sorted(unknown)}")
    for row in rows:
        row["true"] = row["expected"] != (row["name"] in mistaken)
    return {
        "cases": len(rows),
        "as_they_expect": {who: sum(r[who] == r["expected"] for r in rows) for who in WHO},
        "in_truth": {who: sum(r[who] == r["true"] for r in rows) for who in WHO},
        "wrongly_correct": {who: sum(r[who] and not r["true"] for r in rows) for who in WHO},
        "differing": [
            {key: row[key] for key in ("name", "expected", "true", "ours", "peer")}
            | {"why": reasons.get(row["name"], "not explained")}
            for row in rows
            if len({row[key] for key in ("expected", "true", "ours", "peer")}) > 1
        ],
    }


def revision(checkout: Path) -> str:
    """The commit that a checkout has."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    peers = ("lighteval", "nemo_skills")
    for peer in peers:
        option = peer.replace("_", "-")
        parser.add_argument(f"--{option}", type=Path, required=True)
        parser.add_argument(f"--{option}-python", default=sys.executable)
    parser.add_argument("--show", action="store_true", help="print what is judged wrongly")
    arguments = parser.parse_args()
    truth = yaml.safe_load((HERE / "verify_peers_truth.yaml").read_text(encoding="utf-8"))
    result: Row = {}
    for peer in peers:
        checkout, python = getattr(arguments, peer), getattr(arguments, f"{peer}_python")
        found, versions = cases(peer, checkout, python)
        rows = judged(found)
        result[peer] = {"revision": revision(checkout), "versions": versions}
        result[peer] |= compared(rows, **truth[peer])
        shown = {k: v for k, v in result[peer].items() if k != "differing"}
        print(peer, json.dumps(shown), flush=True)
        for row in rows if arguments.show else ():
            if row["ours"] != row["true"] or row["true"] != row["expected"]:
                print("  ", json.dumps(row, ensure_ascii=False), flush=True)
    result["provenance"] = provenance(0)
    path = HERE / "results" / "verify_peers_cases.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
