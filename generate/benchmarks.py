"""The questions of benchmarks, from files and from the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from generate.hub import hub_rows
from generate.problems import file_rows
from tracestill.recipe.problems import Benchmark, FileBenchmark
from tracestill.records import BenchmarkItem


def benchmark_items(benchmarks: Iterable[Benchmark]) -> Iterator[BenchmarkItem]:
    """All questions of these benchmarks, in order; their ids are the numbers of their rows.

    Raises:
        ValueError: one can't be read, or lacks the column.

    """
    for one in benchmarks:
        for number, row in enumerate(_rows(one)):
            if one.column not in row:
                raise ValueError(
                    f"the benchmark {one.name} has no column {one.column!r}, only "
                    f"{', '.join(row)}; say which holds the question (column)"
                )
            yield BenchmarkItem(benchmark=one.name, id=str(number), text=str(row[one.column]))


def _rows(benchmark: Benchmark) -> Iterable[dict[str, Any]]:
    if isinstance(benchmark, FileBenchmark):
        return file_rows(Path(benchmark.path))
    return hub_rows(benchmark.dataset, benchmark.config, benchmark.split, benchmark.revision)
