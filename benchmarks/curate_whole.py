"""The default steps on many traces of 15 kB, for `benchmarks.curate whole`.

Each measurement is a process of its own, `python -m benchmarks.curate_whole FILES PARTS CORES`,
which runs on so many cores, verification included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import curate_corpus as corpus
from filter.filtering import filter_table
from tracestill.recipe.filter import FilterSection
from tracestill.records import Problem, TraceText, arrow_schema
from tracestill.records.identity import problem_id
from tracestill.records.progress import ignore_progress

_EACH = 4  # traces of a problem


def _problem(number: int) -> Problem:
    prompt = f"What is {number} + {4 - number}?"
    return Problem(
        id=problem_id(prompt, "4"), prompt=prompt, reference="4", kind="math", source="made"
    )


def _files(folder: Path, count: int) -> None:
    """Traces of some 15 kB, in shards of 20,000."""
    rng = random.Random(1)
    pool = [corpus.renumbered(text, rng) for text in corpus.solutions() * 3]
    each = round(15_000 * len(pool) / sum(map(len, pool)))
    schema = arrow_schema(TraceText)
    for begin in range(0, count, 20_000):
        path = folder / f"traces-{begin // 20_000:05d}.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for first in range(begin, min(count, begin + 20_000), 500):
                rows = [
                    {
                        "id": f"{number:020d}", "problem_id": _problem(number // _EACH).id,
                        "sample": number % _EACH, "answer": "It is 4.", "finish": "stop",
                        "reasoning": "\n\n".join(rng.choices(pool, k=each)) + "\nIt is 4.",
                        "error": None, "completion_tokens": 4_000,
                    }
                    for number in range(first, min(first + 500, count))
                ]  # fmt: skip
                writer.write_table(pa.Table.from_pylist(rows, schema))


class Memory:
    """The most memory that this process and those that it started hold together, in bytes."""

    def __init__(self) -> None:
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(0.2):
            total = 0
            for one in [own, *own.children(recursive=True)]:
                try:
                    total += one.memory_full_info().pss
                except psutil.Error:
                    continue
            self.most = max(self.most, total)


def whole(small: int) -> dict[str, Any]:
    """Speed on two cores and on one, and memory at other sizes; `small` divides them."""
    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("CURATE_FOLDER")) as temporary:
        for count, cores in ((200_000, (2, 1)), (50_000, (2,)), (400_000, (2,))):
            count //= small
            folder = Path(temporary) / str(count)
            folder.mkdir()
            _files(folder, count)
            for number in cores:
                parts = folder / f"parts-{number}"
                command = [sys.executable, "-m", "benchmarks.curate_whole", folder, parts, number]
                done = subprocess.run(
                    list(map(str, command)), check=True, capture_output=True, text=True
                )
                row = json.loads(done.stdout)
                made[f"{count} traces, {number} cores"] = row
                print(count, number, json.dumps(row), flush=True)
            for file in folder.glob("*.parquet"):
                file.unlink()
    return made


def _filter(files: list[Path], parts: Path) -> dict[str, Any]:
    metadata = [pq.read_metadata(file) for file in files]
    rows = sum(one.num_rows for one in metadata)
    problems = {p.id: p for p in map(_problem, range(-(-rows // _EACH)))}
    begin = time.perf_counter()
    with Memory() as memory:
        found = filter_table(files, problems, [], FilterSection(), parts, ignore_progress)
        dropped = sum(1 for _ in found.drops())
    seconds = time.perf_counter() - begin
    columns = [arrow_schema(TraceText).get_field_index(name) for name in ("reasoning", "answer")]
    size = sum(
        one.row_group(group).column(column).total_uncompressed_size
        for one in metadata
        for group in range(one.num_row_groups)
        for column in columns
    )
    return {
        "seconds": seconds, "mb": size / 1e6, "mb_per_second": size / 1e6 / seconds,
        "memory_gb": memory.most / 1e9, "kept": found.kept, "dropped": dropped,
        "judging_seconds": found.judging, "step_seconds": found.seconds,
    }  # fmt: skip


def main() -> None:
    """The command line of one measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path)
    parser.add_argument("parts", type=Path)
    parser.add_argument("cores", type=int)
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.cores])
    print(json.dumps(_filter(sorted(asked.files.glob("*.parquet")), asked.parts)))


if __name__ == "__main__":
    main()
