"""What the verifiers get right, how fast, and what they hold back: `python benchmarks/verify.py`.

Needs the real data (`--data`, by default ../shared/data) and bubblewrap. Prints each row's figures
and a table; writes benchmarks/results/verify.json. `--math-verify DIR` adds a row: the cases in
the tests of a checkout of Math-Verify; `--human-eval DIR` and `--livecodebench
DIR`, checkouts of the two, time their runners of programs beside ours.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verify_code import escapes, humaneval, timings
from verify_maths import (
    golds_row,
    hostile_row,
    known_row,
    labels_row,
    peer_cases_row,
    rate_row,
    scaling_row,
    traces_row,
)

from filter.verify.code import code
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent


def table(found: dict[str, Any]) -> str:
    """The figures in a line each."""
    known, labels, gold, rate = (found[n] for n in ("known", "gsm8k_labels", "golds", "rate"))
    scaling, hostile, human = found["scaling"], found["hostile"], found["humaneval"]
    slowest = min(value for key, value in found["traces"].items() if "math-verify" not in key)
    tried = found["escapes"]
    rows = {
        "known-wrong table": f"{known['right']} of {known['rows']} "
        f"(math-verify {known['math_verify_right']})",
        "GSM8K labels": f"{labels['agreeing']} of {labels['rows']}",
        "references, six forms": f"{gold['correct']} of {gold['forms']}",
        "another's reference": f"{len(gold['others_accepted'])} of {gold['other_pairs']} accepted",
        "real solutions": f"{rate['rows_per_second']:,.0f} rows/s, math-verify "
        f"{rate['math_verify_rows_per_second']:,.0f}: {rate['times']:.1f} times, "
        f"{len(rate['differing'])} differ",
        "long traces": f"{slowest:,.0f} rows/s at the least",
        "1 to 2 workers": f"{scaling['times']:.2f} times",
        "hostile": f"of {hostile['rows']}: {len(hostile['late'])} late, {hostile['leaks']} leaks, "
        f"{len(hostile['judged_correct'])} judged correct, largest process "
        f"{hostile['largest_worker_mb']:.0f} MB",
        "HumanEval": f"{human['canonical_correct']} of {human['problems']}; bodies of `pass` "
        f"{human['pass_correct']}",
        "escapes": f"of {tried['programs']}: {tried['escaped']} escaped, "
        f"{tried['outcomes'].get('correct', 0)} judged correct, longest {tried['longest_s']} s",
        "sandbox, ms a program": ", ".join(
            f"{name} {time['median_ms']}" for name, time in found["sandbox_ms"].items()
        ),
    }
    if cases := found.get("math_verify_cases"):
        mended = cases["right_with_mistakes_set_right"]
        rows["Math-Verify's cases"] = (
            f"of {cases['rows']} {cases['right']['ours']} (math-verify "
            f"{cases['right']['math_verify']}); its mistakes set right {mended['ours']} "
            f"({mended['math_verify']})"
        )
    return "\n".join(f"{name:<22} {text}" for name, text in rows.items())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--bound", type=float, default=5.0, help="seconds a hostile row may take")
    parser.add_argument("--math-verify", type=Path)
    parser.add_argument("--human-eval", type=Path)
    parser.add_argument("--livecodebench", type=Path)
    arguments = parser.parse_args()
    logging.disable()
    data = arguments.data
    measures: dict[str, Callable[[], Any]] = {
        "sandbox_ms": lambda: timings(200, arguments.human_eval, arguments.livecodebench),
        "humaneval": lambda: humaneval(data / "HumanEval.jsonl.gz", code(5.0)),
        "escapes": escapes,
        "known": known_row,
        "gsm8k_labels": lambda: labels_row(data),
        "golds": lambda: golds_row(data),
        "rate": lambda: rate_row(data),
        "traces": traces_row,
        "scaling": scaling_row,
        "hostile": lambda: hostile_row(arguments.bound),
    }
    if arguments.math_verify:
        measures["math_verify_cases"] = lambda: peer_cases_row(arguments.math_verify)
    found: dict[str, Any] = {"load_before": os.getloadavg()}
    for name, measure in measures.items():
        found[name] = measure()
        print(name, json.dumps(found[name], indent=1, ensure_ascii=False), flush=True)
    found |= {"load_after": os.getloadavg(), "provenance": provenance(0)}
    path = ROOT / "benchmarks" / "results" / "verify.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
