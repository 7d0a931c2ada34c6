"""JSONL and Parquet files, read and written with verdicts, a chunk of rows in memory at a time."""

from __future__ import annotations

import itertools
import json
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracestill.evaluate.judged_rows import COLUMNS, Judging
from tracestill.records import Verdict

if typing.TYPE_CHECKING:
    import pyarrow as pa

RESULTS = ("outcome", "extracted", "verifier", "detail", "seconds")
_CHUNK = 1024  # rows in memory at once
_LONGEST_INT = 4000  # Python refuses to convert longer decimal numbers

Row = dict[str, Any]


def _results(verdict: Verdict) -> Row:
    return {name: getattr(verdict, name) for name in RESULTS}


def _through_jsonl(source: Path, target: Path, table: Judging) -> Iterator[list[Verdict]]:
    seen: set[str] = set()
    begin = 0
    with target.open("wb") as file:
        for rows in _chunks(_json_rows(source)):
            verdicts = table.judge(rows, begin)
            for row, verdict in zip(rows, verdicts, strict=True):
                whole = row if isinstance(row, dict) else {"row": row}
                seen.update(row if isinstance(row, dict) else ())
                file.write(_json_line({**whole, **_results(verdict)}))
            begin += len(rows)
            yield verdicts
    if begin:  # no row needs to have all columns, but a column that none has is misnamed
        table.check(source, seen)


def _json_rows(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                yield json.loads(line, parse_int=_int)
            except (ValueError, RecursionError) as error:
                reason = str(error) or type(error).__name__
                raise ValueError(f"{path}, line {number} is not JSON: {reason}") from error


def _int(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST_INT else digits


def _json_line(row: Row) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 has no bytes for
        return json.dumps(row).encode() + b"\n"


def _chunks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(rows, _CHUNK)):
        yield chunk


def _through_parquet(source: Path, target: Path, table: Judging) -> Iterator[list[Verdict]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    results = {name: pa.float64() if name == "seconds" else pa.string() for name in RESULTS}
    begin = 0
    try:
        with pq.ParquetFile(source) as file:
            names = file.schema_arrow.names
            table.check(source, names)
            read = [n for n in dict.fromkeys(map(table.named, COLUMNS)) if n in names]
            kept = [name for name in names if name not in RESULTS]
            schema = pa.schema(
                [file.schema_arrow.field(name) for name in kept]
                + [pa.field(name, kind) for name, kind in results.items()]
            )
            with pq.ParquetWriter(target, schema, compression="zstd") as writer:
                for batch in file.iter_batches(batch_size=_CHUNK):
                    verdicts = table.judge(_arrow_rows(batch.select(read)), begin)
                    cells = [_results(verdict) for verdict in verdicts]
                    arrays = [batch.column(name) for name in kept]
                    arrays += [
                        pa.array([_writable(cell[name]) for cell in cells], kind)
                        for name, kind in results.items()
                    ]
                    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
                    begin += batch.num_rows
                    yield verdicts
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{source} can't be read as Parquet: {reason}") from error


def _arrow_rows(batch: pa.RecordBatch) -> list[Any]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:  # Parquet does not check its texts: find the rows that are none
        if batch.num_rows == 1:
            return ["text that is not UTF-8"]
        parts = (_arrow_rows(batch.slice(at, 1)) for at in range(batch.num_rows))
        return [row for part in parts for row in part]


def _writable(value: Any) -> Any:
    """Text without the halves of surrogate pairs that JSON may hold and UTF-8 may not."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


FORMATS: dict[str, Callable[[Path, Path, Judging], Iterator[list[Verdict]]]] = {
    ".jsonl": _through_jsonl,
    ".parquet": _through_parquet,
}
