"""Records as one file that other tools read: Parquet or JSON lines, by its ending."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tracestill.records.arrow import arrow_schema, arrow_table, to_row

ENDINGS = (".parquet", ".jsonl")
_ROWS = 500  # in memory at once


def check_ending(option: str, path: Path) -> None:
    """Refuse a file of another kind before anything is made.

    Raises:
        ValueError: it is neither.

    """
    if path.suffix not in ENDINGS:
        raise ValueError(f"{option} {path}: the file's name must end in {' or '.join(ENDINGS)}")


def write_rows(path: Path, record: type, rows: Iterable[Any]) -> int:
    """Write records of one class, and return how many. The file is there when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write = _parquet if path.suffix == ".parquet" else _lines
        count = write(temporary, record, rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _parquet(path: Path, record: type, rows: Iterable[Any]) -> int:
    import pyarrow.parquet as pq

    schema, made, count = arrow_schema(record), map(to_row, rows), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        while some := list(itertools.islice(made, _ROWS)):
            file.write_table(arrow_table(some, schema))
            count += len(some)
    return count


def _lines(path: Path, record: type, rows: Iterable[Any]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", errors="replace") as file:
        for row in rows:
            file.write(json.dumps(to_row(row), ensure_ascii=False) + "\n")
            count += 1
    return count
