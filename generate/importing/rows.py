"""Stream the rows of files or of a data set on the hub."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generate.hub import hub_rows
from generate.importing.row_format import Row, RowFormat, column_of
from generate.messages import whole
from tracestill.records.errors import first_line

_BATCH = 256  # rows of a Parquet file that lie in memory at once


@dataclass(frozen=True, slots=True)
class Line:
    """A row and where it stands; `wrong` is why it can't be read, where that is so."""

    place: str
    row: Row
    wrong: str | None = None


def read_files(files: Sequence[Path], row_format: RowFormat) -> Iterator[Line]:
    """The rows of files, in their order.

    Raises:
        ValueError: a file can't be read, or lacks a column that the format needs.

    """
    for file in files:
        yield from (_parquet if file.suffix == ".parquet" else _jsonl)(file, row_format)


def read_hub(
    dataset: str, config: str | None, split: str, revision: str | None, row_format: RowFormat
) -> Iterator[Line]:
    """The rows of a data set, streamed.

    Raises:
        ValueError: it can't be had, or lacks a column that the format needs.

    """
    for number, row in enumerate(hub_rows(dataset, config, split, revision), 1):
        if number == 1:
            _check(row, row_format, dataset)
        yield Line(f"{dataset}, row {number}", row)


def _check(columns: Any, row_format: RowFormat, name: object) -> None:
    missing = [name for name in row_format.needs if column_of(name, columns) is None]
    if missing:
        raise ValueError(
            f"{name} has no column {', '.join(missing)}, only {', '.join(columns)}; name another "
            "generate.layout, or `layout: table` with `columns`"
        )


def _parquet(file: Path, row_format: RowFormat) -> Iterator[Line]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # With a buffer all that was read stays in memory, as long as the file is open.
        with pq.ParquetFile(file, pre_buffer=False) as opened:
            there = opened.schema_arrow.names
            _check(there, row_format, file)
            names = (*row_format.needs, *row_format.uses)
            wanted = dict.fromkeys(filter(None, (column_of(name, there) for name in names)))
            for batch in opened.iter_batches(_BATCH, columns=list(wanted)):
                for row in batch.to_pylist():
                    number += 1
                    yield Line(f"{file.name}, row {number}", row)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} can't be read: {first_line(error)}") from error


def _unpacked(file: Path) -> Iterator[bytes]:
    """A file's lines, decompressed as its name says."""
    import pyarrow as pa

    try:
        opened: Any = pa.input_stream(str(file), compression="detect")
        with io.BufferedReader(opened) as lines:
            yield from lines
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} can't be read: {first_line(error)}") from error


def _jsonl(file: Path, row_format: RowFormat) -> Iterator[Line]:
    checked = False
    for number, line in enumerate(_unpacked(file), 1):
        if not line.strip():
            continue
        place = f"{file.name}, line {number}"
        try:
            row = json.loads(line)
            if b"\\ud" in line.lower():
                row = json.loads(whole(json.dumps(row, ensure_ascii=False)))
        except (ValueError, RecursionError) as error:
            yield Line(place, {}, f"not JSON: {first_line(error)}")
            continue
        if not isinstance(row, dict):
            yield Line(place, {}, "not a JSON object")
            continue
        if not checked:
            _check(row, row_format, file)
            checked = True
        yield Line(place, row)
