"""A table of traces on disk, as the filter reads it: in units, in order or by place, and never more
of it at once than it needs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracestill.records import AnyTrace, Problem, TraceText, arrow_schema
from tracestill.records.arrow import arrow_table

_UNIT_BYTES = 16 << 20  # of text that is read together
_UNIT_ROWS = 2_000
_BATCH = 256  # rows that are Python's at once
_SAMPLED = 16  # row groups at least, of which a sample has rows
_TEXT = ("reasoning", "answer")
_FIELDS: list[Any] = [
    pa.field("id", pa.string()),
    pa.field("sample", pa.int64()),
    pa.field("completion_tokens", pa.int64()),
    pa.field("finish", pa.string()),
]
_KEYS = pa.schema(_FIELDS)
COLUMNS = [field.name for field in dataclasses.fields(TraceText)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Neighbouring row groups of one file: what one process works on at once. `first` is the place
    of its first trace in the whole table.
    """

    number: int
    file: Path
    groups: tuple[int, ...]
    first: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFiles:
    """Parquet files of traces, in order, and the units into which they are divided."""

    files: tuple[Path, ...]
    units: tuple[Unit, ...]

    @property
    def rows(self) -> int:
        """How many traces there are."""
        return sum(unit.rows for unit in self.units)


def trace_files(files: Sequence[Path]) -> TraceFiles:
    """Divide the files into units.

    Raises:
        ValueError: a file is damaged, or lacks a column or has another type in it.

    """
    units: list[Unit] = []
    first = 0
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                _check_columns(path, file.schema_arrow)
                meta = file.metadata
                sizes = [_bytes(meta.row_group(group)) for group in range(meta.num_row_groups)]
                rows = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is damaged or no Parquet file ({error})") from error
        groups: list[int] = []
        for group in range(len(sizes)):
            groups.append(group)
            count, size = sum(rows[g] for g in groups), sum(sizes[g] for g in groups)
            full = count >= _UNIT_ROWS or size >= _UNIT_BYTES or group == len(sizes) - 1
            if full and count:
                units.append(
                    Unit(
                        number=len(units), file=path, groups=tuple(groups), first=first, rows=count
                    )
                )
                first += count
                groups = []
    return TraceFiles(files=tuple(files), units=tuple(units))


def _bytes(group: Any) -> int:
    columns = (group.column(number) for number in range(group.num_columns))
    return sum(one.total_uncompressed_size for one in columns if one.path_in_schema in _TEXT)


def _check_columns(path: Path, schema: pa.Schema) -> None:
    for name, kind in [(name, TraceText.__annotations__[name]) for name in COLUMNS]:
        if name not in schema.names:
            raise ValueError(f"{path} is no table of traces: it has no column {name}")
        found, number = schema.field(name).type, kind == "int"
        fits = pa.types.is_integer(found) if number else pa.types.is_string(found)
        if not (fits or pa.types.is_large_string(found) or pa.types.is_null(found)):
            wanted = "whole numbers" if number else "text"
            raise ValueError(f"{path}: the column {name} has {found}, not {wanted}")


def read_unit(unit: Unit) -> Iterator[list[TraceText]]:
    """A unit's traces, some at a time.

    Raises:
        ValueError: the file is damaged.

    """
    try:
        with pq.ParquetFile(unit.file, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH, row_groups=list(unit.groups), columns=COLUMNS):
                columns = [batch.column(name).to_pylist() for name in COLUMNS]
                yield [
                    TraceText(**dict(zip(COLUMNS, row, strict=True)))
                    for row in zip(*columns, strict=True)
                ]
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{unit.file} is damaged ({error})") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What is known of all traces at once, by their place in the table: ids, the number of their
    problem, completion tokens, and whether a teacher wrote them (`answered`) or its request failed.
    `order` are the places by problem, sample and id, in which traces come first or later whatever
    the order of the table.
    """

    ids: pa.Array[Any]
    problems: npt.NDArray[np.int32]
    samples: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    answered: npt.NDArray[np.bool_]
    order: npt.NDArray[np.int64]


def index(traces: TraceFiles, problems: Mapping[str, Problem]) -> Index:
    """Read the columns that say which trace is which.

    Raises:
        ValueError: a trace's problem is not among the problems, or two traces have one id.

    """
    known = pa.array(list(problems), pa.string())
    parts, numbers = [_KEYS.empty_table()], [np.zeros(0, np.int32)]
    for path in traces.files:
        table = pq.read_table(path, columns=[*_KEYS.names, "problem_id"], memory_map=True)
        found = pc.index_in(table.column("problem_id"), value_set=known)
        if found.null_count:
            at = pc.index(pc.is_null(found), True).as_py()
            trace, problem = table.column("id")[at], table.column("problem_id")[at]
            raise ValueError(
                f"trace {trace} answers problem {problem}, which is not among the {len(known)} "
                "problems: give the problems that the traces were made from"
            )
        numbers.append(found.to_numpy().astype(np.int32))
        parts.append(table.drop_columns("problem_id").cast(_KEYS))
    whole = pa.concat_tables(parts).combine_chunks()
    problem = np.concatenate(numbers)
    ordered = pc.sort_indices(
        whole.append_column("problem", pa.array(problem)),
        sort_keys=[("problem", "ascending"), ("sample", "ascending"), ("id", "ascending")],
    )
    ids = whole.column("id").combine_chunks()
    if pc.count_distinct(ids).as_py() < len(ids):
        twice = next(one for one, count in Counter(ids.to_pylist()).items() if count > 1)
        raise ValueError(f"two traces have the id {twice}: give each trace once")
    return Index(
        ids=ids,
        problems=problem,
        samples=whole.column("sample").to_numpy(),
        tokens=whole.column("completion_tokens").to_numpy(),
        answered=pc.is_in(
            whole.column("finish"), value_set=pa.array(["stop", "length"])
        ).to_numpy(),
        order=ordered.to_numpy().astype(np.int64),
    )


def texts_at(
    traces: TraceFiles, places: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], list[TraceText]]]:
    """The traces at these places (ascending), some at a time with their places; units that hold
    none of them are not read.
    """
    for unit in traces.units:
        begin, end = np.searchsorted(places, [unit.first, unit.first + unit.rows])
        if begin == end:
            continue
        first = unit.first
        for batch in read_unit(unit):
            low, high = np.searchsorted(places, [first, first + len(batch)])
            if low < high:
                yield places[low:high], [batch[place - first] for place in places[low:high]]
            first += len(batch)


def write_texts(path: Path, traces: Iterable[AnyTrace]) -> Path:
    """Write what is read of traces as one file."""
    schema = arrow_schema(TraceText)
    rows = ({name: getattr(trace, name) for name in COLUMNS} for trace in traces)
    with pq.ParquetWriter(path, schema) as file:
        while some := list(itertools.islice(rows, _BATCH)):
            file.write_table(arrow_table(some, schema))
    return path


def sample_of(files: Sequence[Path], rows: int, path: Path) -> tuple[Path, int]:
    """Write about `rows` traces as one file, neighbours together, evenly from all over the table;
    returns it, and how many traces there are in all.
    """
    found = trace_files(files)
    groups = [(unit.file, group) for unit in found.units for group in unit.groups]
    size = max(1, found.rows // max(1, len(groups)))
    count = min(len(groups), max(_SAMPLED, -(-rows // size)))
    with pq.ParquetWriter(path, arrow_schema(TraceText)) as writer:
        written = 0
        for number in range(count):
            file, group = groups[number * len(groups) // count]
            with pq.ParquetFile(file) as source:
                table = source.read_row_group(group, columns=COLUMNS)
            share = -(
                -(rows - written) // (count - number)
            )  # what smaller ones lacked, from others
            table = table.slice(0, share).cast(arrow_schema(TraceText))
            writer.write_table(table)
            written += len(table)
    return path, found.rows
