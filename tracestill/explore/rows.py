"""Some columns or rows of a stage's table, where the whole of it would not fit into memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracestill.records import table_files
from tracestill.records.arrow import from_row

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

R = TypeVar("R")


def columns_of(folder: Path, name: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a complete stage's table.

    Raises:
        ValueError: the stage is not complete, has no such table, or a shard is damaged.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = table_files(folder, name)
    return pa.concat_tables([pq.read_table(path, columns=list(columns)) for path in files])


def rows_with(
    folder: Path, name: str, record: type[R], column: str, values: Sequence[str]
) -> Iterator[R]:
    """The records of a complete stage's table that have one of these values in a column.

    Raises:
        ValueError: the stage is not complete, has no such table, or a shard is damaged.

    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    wanted = pa.array(values, pa.string())
    for path in table_files(folder, name):
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(columns=names):
                found = batch.filter(pc.is_in(batch.column(column), value_set=wanted))
                for row in found.to_pylist():
                    yield from_row(record, row)


def rows_at(
    folder: Path, name: str, places: npt.NDArray[np.int64], columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a complete stage's table at ascending places, with their places. Groups of rows
    that hold none of them are not read.

    Raises:
        ValueError: the stage is not complete, has no such table, or a shard is damaged.

    """
    import numpy as np
    import pyarrow.parquet as pq

    first = 0
    for path in table_files(folder, name):
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(places, [first, first + rows])
                if low < high:
                    own = places[low:high]
                    table = file.read_row_group(group, columns=list(columns)).take(own - first)
                    yield from zip(own.tolist(), table.to_pylist(), strict=True)
                first += rows
