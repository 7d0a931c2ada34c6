"""What a report of many traces takes, and how soon the quickstart's is seen:
`python -m benchmarks.report --quickstart runs/quickstart`.

Builds the report of a finished quickstart in a copy and opens it from disk in headless Chromium.
Then it makes a run of 200,000 traces of random sentences with the writers of the records (four to a
problem, 8,000 characters in the mean, half of them kept, the others dropped for eight reasons, some
of them loops), and does the same with that. Writes benchmarks/results/report.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracestill.recipe.loading import dump_recipe, load_recipe
from tracestill.records import (
    Dispute,
    Doubt,
    Drop,
    KeptContent,
    Problem,
    Sampling,
    StageResult,
    Teacher,
    Trace,
    Verdict,
    as_manifest,
    write_manifest,
    write_table,
)
from tracestill.records.figures import SamplingFigures
from tracestill.records.layout import FUNNEL, RECIPE, REPORT
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
EACH = 4  # traces of a problem
OPENED = 7
# Of a hundred traces: reason and step, with what the step says.
FATES = [
    *[("incorrect", "verify", "7 is not 4")] * 25,
    *[("truncated", "form", "cut after 16384 tokens")] * 6,
    *[("near_duplicate", "near", "of 00000000000000000001, similarity 0.912")] * 6,
    *[("loop", "quality", "its end is said 12 times")] * 5,
    *[("repetitive", "quality", "20 words in a row come 24 times")] * 3,
    *[("exact_duplicate", "exact", "of 00000000000000000002")] * 2,
    *[("mixed_language", "language", "3 of 20 pieces, one in French: le reste")] * 2,
    ("refusal", "refusal", "I can't help with that"),
]
STEPS = ("refusal", "form", "verify", "quality", "language", "exact", "near")
TEACHER = Teacher(
    model="some/teacher",
    revision=None,
    content="c",
    engine="vllm",
    engine_version="0",
    quantisation=None,
    provider="local",
    sampling=Sampling(temperature=0.6, top_p=0.95, top_k=-1, max_tokens=16384, seed=0),
)


def fate(number: int) -> tuple[str, str, str] | None:
    """Why a trace is dropped; None for a kept one."""
    place = number * 37 % 100
    return FATES[place] if place < len(FATES) else None


def problems(count: int) -> Iterator[Problem]:
    """Sums, of four tasks."""
    for number in range(count):
        yield Problem(
            id=f"{number:020x}",
            prompt=f"Problem {number}: what is {number} + {4 - number}?",
            reference="4",
            kind="math",
            source=f"made/{number % 4}",
        )


def traces(count: int, characters: int) -> Iterator[Trace]:
    """Traces of half to one and a half times so many characters."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 9))) for _ in range(20_000)]
    sentences = [" ".join(rng.choices(words, k=20)) + ". " for _ in range(20_000)]
    length = statistics.mean(map(len, sentences))
    for number in range(count):
        dropped = fate(number)
        size = round(rng.uniform(0.5, 1.5) * characters / length)
        if dropped is not None and dropped[0] in ("loop", "truncated"):
            said = rng.choices(sentences, k=size // 3) + rng.choices(sentences, k=2) * (size // 3)
        else:
            said = rng.choices(sentences, k=size)
        reasoning = "".join(said)
        answer = f"It is \\boxed{{{7 if dropped and dropped[0] == 'incorrect' else 4}}}."
        cut = dropped is not None and dropped[0] == "truncated"
        yield Trace(
            id=f"{number:020x}",
            problem_id=f"{number // EACH:020x}",
            sample=number % EACH,
            raw=f"{reasoning}\n</think>\n\n{answer}",
            raw_reasoning=None,
            raw_token_ids=None,
            reasoning=reasoning,
            answer=None if cut else answer,
            finish="length" if cut else "stop",
            error=None,
            prompt_tokens=20,
            completion_tokens=len(reasoning) // 4,
            teacher=TEACHER,
            seconds=1.0,
            cost=0.0,
        )


def make(folder: Path, count: int, characters: int) -> None:
    """A run up to its filter."""
    text = (
        "name: many\nproblems: {train: [{source: reasoning_gym, family: chain_sum, size: 2}], "
        "heldout: [{source: reasoning_gym, family: chain_sum, size: 2, seed: 1}]}\n"
        f"generate: {{model: {ROOT}/miniature/teacher}}\n"
        f"finetune: {{student: {ROOT}/miniature/student, template: miniature}}\n"
    )
    (folder / "many.yaml").write_text(text)
    run = folder / "run"
    run.mkdir()
    (run / RECIPE).write_text(dump_recipe(load_recipe(folder / "many.yaml")))
    asked = -(-count // EACH)
    fates = [(f"{number:020x}", fate(number)) for number in range(count)]
    dropped = Counter(one[0] for _, one in fates if one)
    verdicts = (
        Verdict(
            trace_id=own,
            verifier="math/made",
            outcome="incorrect" if one and one[0] == "incorrect" else "correct",
            extracted="7" if one and one[0] == "incorrect" else "4",
            detail="made",
            seconds=0.0,
        )
        for own, one in fates
        if not (one and one[0] == "truncated")
    )
    drops = (
        Drop(trace_id=own, step=one[1], reason=one[0], detail=one[2]) for own, one in fates if one
    )
    kept = (KeptContent(trace_id=own, content=own) for own, one in fates if one is None)
    disputes = (
        Dispute(
            trace_id=own,
            problem_id=f"{number // EACH:020x}",
            answer="4",
            opinions={"a": "correct", "b": "no"},
        )
        for number, (own, _) in enumerate(fates[: count // 1000])
    )
    stages = {
        "problems": StageResult(
            rows_in=asked,
            rows_out=asked,
            tables={"train": write_table(run / "problems", "train", Problem, problems(asked))},
        ),
        "generate": StageResult(
            rows_in=count,
            rows_out=count,
            tables={
                "traces": write_table(run / "generate", "traces", Trace, traces(count, characters))
            },
            figures=SamplingFigures(
                tokens=count * characters // 4,
                length=dropped["truncated"],
                error=0,
                cost=0.0,
                problems=asked,
            ),
        ),
        "filter": StageResult(
            rows_in=count,
            rows_out=count - sum(dropped.values()),
            dropped=dict(dropped),
            tables={
                "verdicts": write_table(run / "filter", "verdicts", Verdict, verdicts),
                "drops": write_table(run / "filter", "drops", Drop, drops),
                "disputes": write_table(run / "filter", "disputes", Dispute, disputes),
                "doubts": write_table(run / "filter", "doubts", Doubt, []),
                "kept": write_table(run / "filter", "kept", KeptContent, kept),
            },
        ),
    }
    rows = [{"step": step, "traces": 0, "dropped": 0, "noted": {}} for step in STEPS]
    (run / "filter" / FUNNEL).write_text(json.dumps(rows))
    for name, made in stages.items():
        manifest = as_manifest(run / name, made, stage=name, fingerprint="made", seconds=1.0)
        write_manifest(run / name, manifest)


def built(run: Path) -> dict[str, Any]:
    """Build a report in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.report", "--build", str(run)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def build_here(run: Path) -> dict[str, Any]:
    """Build a report in this process; memory is the most that it has held, libraries included."""
    from tracestill.explore.report import build

    begin, busy = time.perf_counter(), time.process_time()
    page = build(run)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    data = page.read_text().partition('type="application/json">')[2].partition("</script>")[0]
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(busy, 1),
        "memory_mb": round(peak / 1024),
        "bytes": page.stat().st_size,
        "traces_shown": len(json.loads(data)["rows"]),
    }


def painted(page: Path) -> dict[str, Any]:
    """Milliseconds from the navigation to the first paint, and until the traces can be filtered."""
    from playwright.sync_api import sync_playwright

    paints, ready = [], []
    script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for _ in range(OPENED):
            tab = chromium.new_context().new_page()
            tab.set_default_timeout(300_000)  # on a machine that is busy
            tab.goto(page.as_uri())
            tab.wait_for_selector("body[data-ready]")
            ready.append(float(tab.evaluate("performance.now()")))
            paints.append(float(tab.evaluate(script)))
            tab.context.close()
        version = chromium.version
        chromium.close()
    return {
        "first_paint_ms": [round(one) for one in paints],
        "first_paint_ms_median": round(statistics.median(paints)),
        "ready_ms_median": round(statistics.median(ready)),
        "chromium": version,
    }


def main() -> None:
    """Measure both, the small one first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, help="only build this run's report")
    parser.add_argument("--quickstart", type=Path, default=ROOT / "runs/quickstart")
    parser.add_argument("--traces", type=int, default=200_000)
    parser.add_argument("--characters", type=int, default=8_000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/report.json")
    options = parser.parse_args()
    if options.build:
        print(json.dumps(build_here(options.build)))
        return
    made: dict[str, Any] = {"provenance": provenance(0), "load": os.getloadavg()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy = Path(shutil.copytree(options.quickstart, folder / "quickstart"))
        made["quickstart"] = built(copy) | painted(copy / REPORT)
        print(json.dumps(made["quickstart"]), flush=True)
        make(folder, options.traces, options.characters)
        made["many"] = {"traces": options.traces, "characters": options.characters}
        made["many"] |= built(folder / "run") | painted(folder / "run" / REPORT)
        print(json.dumps(made["many"]), flush=True)
    options.out.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
