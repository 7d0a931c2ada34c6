"""Tables of records as Parquet shards.

Shards are written under a temporary name, synced and renamed, so that a reader sees a whole shard
or none.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracestill.records.arrow import arrow_schema, arrow_table, from_row, to_row
from tracestill.records.files import sync_folder
from tracestill.records.manifest import Shard, check_files, read_manifest

if TYPE_CHECKING:
    pass

R = TypeVar("R")
SHARD_ROWS = 20_000
_GROUP_ROWS = 500  # rows in memory at once, when writing and when reading; a trace has 100 kB


def write_table(
    folder: Path,
    name: str,
    record: type[R],
    rows: Iterable[R],
    content: type[Any] | None = None,
) -> list[Shard]:
    """Write records as `<name>-00000.parquet`, …, replacing the table that was there.

    `content` is a record of those of the columns that alone decide whether a stage that reads the
    table is made again; None: all do.
    """
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    schema = arrow_schema(record)
    shards: list[Shard] = []
    iterator = iter(rows)
    more = True
    while more:
        path = folder / f"{name}-{len(shards):05d}.parquet"
        temporary = path.with_name(f".{path.name}.tmp")
        written = 0
        try:
            with pq.ParquetWriter(temporary, schema, compression="zstd") as file:
                while written < SHARD_ROWS:
                    room = min(_GROUP_ROWS, SHARD_ROWS - written)
                    group = [to_row(row) for row in itertools.islice(iterator, room)]
                    if group:
                        file.write_table(arrow_table(group, schema))
                    written += len(group)
                    more = len(group) == room
                    if not more:
                        break
            if not written and shards:
                break
            with temporary.open("rb") as synced:
                os.fsync(synced.fileno())
                sha256 = hashlib.file_digest(synced, "sha256").hexdigest()
                size = synced.tell()
            decides = _hash_of_columns(temporary, content) if content else None
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        shards.append(
            Shard(
                file=path.name,
                rows=written,
                bytes=size,
                sha256=sha256,
                content=decides,
            )
        )
    keep = {shard.file for shard in shards}
    for stale in folder.glob(f"{name}-[0-9][0-9][0-9][0-9][0-9].parquet"):
        if stale.name not in keep:
            stale.unlink()
    sync_folder(folder)
    return shards


def _hash_of_columns(path: Path, record: type[Any]) -> str:
    """The hash that a shard would have if it held nothing but the columns of `record`, so that a
    table that has gained columns counts as the one that it was.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, schema, alone = _names(record), arrow_schema(record), pa.BufferOutputStream()
    with (
        pq.ParquetFile(path, pre_buffer=False) as file,
        pq.ParquetWriter(alone, schema, compression="zstd") as written,
    ):
        for group in range(file.num_row_groups):
            written.write_table(file.read_row_group(group, columns=names).select(names))
    return hashlib.sha256(alone.getvalue()).hexdigest()


def read_table(folder: Path, name: str, record: type[R]) -> Iterator[R]:
    """The records of a complete stage's table, in the order of writing.

    Raises:
        ValueError: the stage is not complete, has no such table, or a shard is damaged.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for shard in _shards(folder, name):
        try:
            # With a buffer all that was read stays in memory, as long as the file is open.
            with pq.ParquetFile(folder / shard.file, pre_buffer=False) as file:
                for batch in file.iter_batches(_GROUP_ROWS, columns=_names(record)):
                    for row in batch.to_pylist():
                        yield from_row(record, row)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ValueError(
                f"{folder / shard.file} is damaged ({error}); delete "
                f"{folder / 'manifest.json'} to make this stage again"
            ) from error


class Table(Sequence[R]):
    """The records of a complete stage's table, read as they are asked for: in memory is never
    more than the last group of them.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard], record: type[R]) -> None:
        self._folder = folder
        self._shards = shards
        self._record = record
        self._begins = list(itertools.accumulate((shard.rows for shard in shards), initial=0))
        self._group: list[R] = []
        self._group_begin = 0

    def __len__(self) -> int:
        return self._begins[-1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        if not self._group_begin <= place < self._group_begin + len(self._group):
            self._load(place)
        return self._group[place - self._group_begin]

    def column(self, name: str) -> Iterator[Any]:
        """One field of all records, without the others being read."""
        import pyarrow.parquet as pq

        for shard in self._shards:
            with pq.ParquetFile(self._folder / shard.file, pre_buffer=False) as file:
                for batch in file.iter_batches(columns=[name]):
                    yield from batch.column(0).to_pylist()

    def _load(self, place: int) -> None:
        """Read the group of rows that holds a place."""
        import pyarrow.parquet as pq

        number = bisect.bisect_right(self._begins, place) - 1
        begin = self._begins[number]
        with pq.ParquetFile(self._folder / self._shards[number].file, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if place < begin + rows:
                    batch = file.read_row_group(group).to_pylist()
                    self._group = [from_row(self._record, row) for row in batch]
                    self._group_begin = begin
                    return
                begin += rows


def open_table(folder: Path, name: str, record: type[R]) -> Table[R]:
    """The records of a complete stage's table as a sequence that is not held in memory.

    Raises:
        ValueError: the stage is not complete, has no such table, or a shard is damaged.

    """
    return Table(folder, _shards(folder, name), record)


def _names(record: type) -> list[str]:
    """The columns that a record is made of: a table may have more."""
    return [field.name for field in dataclasses.fields(record)]


def has_columns(folder: Path, name: str, record: type) -> bool:
    """Whether a complete stage's table has all the columns of a record: one of an older version may
    have fewer.

    Raises:
        ValueError: the stage is not complete, has no such table, or a shard is damaged.

    """
    import pyarrow.parquet as pq

    first = table_files(folder, name)[0]  # an empty table has a shard too
    return set(_names(record)) <= set(pq.read_schema(first).names)


def table_files(folder: Path, name: str) -> list[Path]:
    """The Parquet files of a complete stage's table, in order.

    Raises:
        ValueError: the stage is not complete, has no such table, or a shard is damaged.

    """
    return [folder / shard.file for shard in _shards(folder, name)]


def _shards(folder: Path, name: str) -> list[Shard]:
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{folder} is not complete: it has no manifest.json; run that stage first")
    if name not in manifest.tables:
        raise ValueError(f"{folder} has no table {name!r}, only {sorted(manifest.tables)}")
    check_files(folder, manifest)
    return manifest.tables[name]
