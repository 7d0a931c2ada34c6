"""What the filter has found out so far, on disk: a file for each unit of its traces.

A file is written under a temporary name and renamed. A filter that was killed finds those that are
whole and makes the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracestill.records import arrow_schema, from_row, to_row
from tracestill.records.arrow import arrow_table

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R")


class Parts:
    """A folder of them. `kind` names what a file holds, such as `verdicts`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, kind: str, unit: int) -> bool:
        """Whether a unit's file is there."""
        return self._path(kind, unit).exists()

    def write(self, kind: str, unit: int, table: pa.Table) -> None:
        """Write a unit's file."""
        import pyarrow as pa

        path = self._path(kind, unit)
        temporary = path.with_name(f".{path.name}.tmp")
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        temporary.replace(path)

    def read(self, kind: str, unit: int) -> pa.Table:
        """A unit's file, not read before it is looked at."""
        import pyarrow as pa

        with pa.memory_map(str(self._path(kind, unit))) as file:
            return pa.ipc.open_file(file).read_all()

    def write_records(self, kind: str, unit: int, record: type, rows: Iterable[Any]) -> None:
        """Write records of one class as a unit's file."""
        self.write(kind, unit, arrow_table([to_row(r) for r in rows], arrow_schema(record)))

    def records(self, kind: str, units: Sequence[int], record: type[R]) -> Iterator[R]:
        """The records of these units, in order."""
        for unit in units:
            for row in self.read(kind, unit).to_pylist():
                yield from_row(record, row)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, kind: str, unit: int) -> Path:
        return self.folder / f"{kind}-{unit:06d}.arrow"
