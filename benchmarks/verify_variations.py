"""Right and wrong variations of answers, mathematical and of several choices, family by family, and
what the judge makes of them: `python benchmarks/verify_variations.py`.

Made with fixed seeds from the references of MATH-500, AIME 2024 and AMC 2023 (`--data`, by default
../shared/data; where that is absent nothing is made). Prints a line a family and every pair that is
judged wrongly; writes benchmarks/results/verify_variations.json.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from verify_choice_families import CHOICE_FAMILIES
from verify_families import FAMILIES, Case, Source
from verify_maths import golds

from filter.verify import Answer, verify_many
from tracestill.records import Problem
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
PAIRS = 20_000  # of each family, where it has so many


def made(family: Callable[[Source], Iterator[Case]], source: Source) -> list[Case]:
    """`PAIRS` different cases of a family, fewer where it has no more."""
    cases: dict[tuple[str, str, tuple[str, ...]], Case] = {}
    for case in islice(family(source), 4 * PAIRS):
        cases.setdefault((case.reference, case.completion, case.choices), case)
    return source.chance.sample(list(cases.values()), min(PAIRS, len(cases)))


def answer(case: Case) -> Answer:
    """What the verifier is asked about a case."""
    problem = Problem(
        id="p",
        prompt="?",
        reference=case.reference,
        kind="choice" if case.choices else "math",
        source="benchmark",
        meta={"choices": list(case.choices)} if case.choices else {},
    )
    return Answer(problem=problem, text=case.completion, trace_id="t")


def measured(family: Callable[[Source], Iterator[Case]], source: Source) -> dict[str, Any]:
    """How many of a family's pairs are judged right, and those that are not."""
    cases = made(family, source)
    begin = time.perf_counter()
    outcomes = [verdict.outcome for verdict in verify_many([answer(case) for case in cases])]
    wrong = [
        {**asdict(case), "judged": outcome}
        for case, outcome in zip(cases, outcomes, strict=True)
        if outcome != case.outcome
    ]
    return {
        "pairs": len(cases),
        "right": len(cases) - len(wrong),
        "wrongly_correct": [row for row in wrong if row["judged"] == "correct"],
        "others_wrong": [row for row in wrong if row["judged"] != "correct"],
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    data = parser.parse_args().data
    if not data.is_dir():
        print(f"no references: {data} is absent; name their folder with --data")
        return
    references = sorted(set(golds(data)))
    number = re.compile(r"-?[1-9]\d*|-?\\frac\{\d+\}\{\d+\}")
    numbers = [text for text in references if number.fullmatch(text)]
    found: dict[str, Any] = {}
    for seed, family in enumerate((*FAMILIES, *CHOICE_FAMILIES)):
        source = Source(chance=random.Random(seed), references=references, numbers=numbers)
        found[family.__name__] = row = measured(family, source)
        print(f"{family.__name__:<14} {row['right']} of {row['pairs']}, {row['seconds']} s")
        for case in [*row["wrongly_correct"], *row["others_wrong"]][:30]:
            print("  ", json.dumps(case, ensure_ascii=False), flush=True)
    rows = list(found.values())
    total = {key: sum(row[key] for row in rows) for key in ("pairs", "right")}
    total["wrongly_correct"] = sum(len(row["wrongly_correct"]) for row in rows)
    print(json.dumps(total))
    path = ROOT / "benchmarks" / "results" / "verify_variations.json"
    result = {"total": total, "families": found, "provenance": provenance(0)}
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
