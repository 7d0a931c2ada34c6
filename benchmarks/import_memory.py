"""How much memory an import takes, and how fast it is: `python benchmarks/import_memory.py`.

Makes a file in OpenThoughts3's layout (16 answers to a problem, random words), imports it as the
stages problems and generate do, and writes benchmarks/results/import_memory.json. Memory is the
process's peak above what it held with its libraries loaded, before the first row.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracestill.recipe.loading import load_recipe
from tracestill.records import read_manifest
from tracestill.records.layout import Stage
from tracestill.records.progress import ignore_progress
from tracestill.run.pipeline import make_stage
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
ANSWERS = 16
RECIPE = """\
name: import-memory
problems: {{heldout: [{{source: reasoning_gym, family: chain_sum, size: 2}}]}}
generate: {{engine: import, layout: openthoughts3-1.2m, path: {path}}}
finetune: {{student: some/student, template: plain.jinja, stop: x}}
"""


def rows(count: int, size: int) -> Iterator[dict[str, Any]]:
    """Rows of about `size` characters."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 9))) for _ in range(20_000)]
    sentences = [" ".join(rng.choices(words, k=20)) + ". " for _ in range(20_000)]
    length = sum(map(len, sentences)) / len(sentences)
    for number in range(count):
        prompt = f"Problem {number // ANSWERS}: {sentences[number // ANSWERS % 20_000]}"
        body = "".join(rng.choices(sentences, k=max(1, round(size / length))))
        answer = f"<think>\n{number}. {body}\n</think>\n\nThe answer is \\boxed{{{number}}}."
        yield {
            "difficulty": 7,
            "source": "synthetic",
            "domain": "math",
            "conversations": [
                {"from": "human", "value": prompt},
                {"from": "gpt", "value": answer},
            ],
        }


def write(path: Path, count: int, size: int) -> None:
    """Write the rows as Parquet, a thousand to a group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = rows(count, size)
    first = pa.Table.from_pylist([next(made)])
    with pq.ParquetWriter(path, first.schema, compression="zstd") as file:
        group, done = [], 1
        file.write_table(first)
        for row in made:
            group.append(row)
            done += 1
            if len(group) == 1000 or done == count:
                file.write_table(pa.Table.from_pylist(group, first.schema))
                group = []


def memory(field: str) -> float:
    """A figure of this process's memory, in MB: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no {field} in /proc/self/status")


def measure(recipe_file: str, run: str, results: Any) -> None:
    """Run the two stages in this process."""
    import datasets  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    recipe = load_recipe(Path(recipe_file))
    start = memory("VmRSS")
    found: dict[str, Any] = {"start_mb": round(start, 1)}
    stages: tuple[Stage, ...] = ("problems", "generate")
    for stage in stages:
        begin = time.perf_counter()
        make_stage(stage, recipe, Path(run), ignore_progress)
        found[stage] = {
            "seconds": round(time.perf_counter() - begin, 1),
            "peak_mb_above_start": round(memory("VmHWM") - start, 1),
        }
    results.put(found)


def main() -> None:
    """Measure several numbers of rows, so that what grows with them shows; a figure replaces the
    recorded one of as many rows of that size.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[30_000, 300_000])
    parser.add_argument("--size", type=int, default=10_000, help="characters of a row")
    arguments = parser.parse_args()
    path = ROOT / "benchmarks" / "results" / "import_memory.json"
    measured = json.loads(path.read_text())["measured"] if path.exists() else []
    context = multiprocessing.get_context("spawn")
    for count in arguments.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder / "rows.parquet", count, arguments.size)
            recipe = folder / "recipe.yaml"
            recipe.write_text(RECIPE.format(path="rows.parquet"))
            results = context.Queue()
            child = context.Process(
                target=measure, args=(str(recipe), str(folder / "run"), results)
            )
            child.start()
            found = results.get()
            child.join()
            made = read_manifest(folder / "run" / "generate")
            assert made is not None
            found |= {
                "rows": count,
                "traces": made.rows_out,
                "characters_a_row": arguments.size,
                "input_mb": round((folder / "rows.parquet").stat().st_size / 2**20, 1),
                "rows_per_second": round(count / found["generate"]["seconds"]),
                "load_after": os.getloadavg(),
                "provenance": provenance(0),
            }
            same = (count, arguments.size)
            measured = [m for m in measured if (m["rows"], m["characters_a_row"]) != same]
            measured.append(found)
            path.write_text(json.dumps({"measured": measured}, indent=2) + "\n")
            print(json.dumps({k: v for k, v in found.items() if k != "provenance"}))


if __name__ == "__main__":
    main()
