"""The words of a run's traces and prompts: an SQLite index (FTS5) in the user's cache. It grows
while it is searched, and goes on where it was when its building was stopped.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.view.tables import Tables, alone, index_path, touch
from tracestill.view.words import match_of, spaced

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BATCH = 1_000  # rows whose texts are in memory at once
_BUSY = 10_000  # milliseconds that a reader waits for a writer
_SCHEMA = """
CREATE VIRTUAL TABLE IF NOT EXISTS problem_words USING fts5(
    text, content='', columnsize=0, tokenize='unicode61');
CREATE VIRTUAL TABLE IF NOT EXISTS trace_words USING fts5(
    text, content='', columnsize=0, tokenize='unicode61');
CREATE TABLE IF NOT EXISTS covered (name TEXT PRIMARY KEY, rows INTEGER NOT NULL);
INSERT OR IGNORE INTO covered VALUES ('problem_words', 0), ('trace_words', 0);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Where the words of a search stand: places of traces, and numbers of problems with them in
    the prompt. `searched` of the traces were looked at.
    """

    traces: npt.NDArray[np.int32]
    problems: npt.NDArray[np.int32]
    searched: int


class Words:
    """The words of a run's traces."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._path = index_path(tables.text_key, "words")

    def searched(self) -> int:
        """How many traces are in the index so far."""
        if not self._path.exists():
            return 0
        with self._open() as base:
            return _covered(base, "trace_words")

    def find(self, asked: str) -> Hits:
        """The traces that hold all words that a person typed, or whose prompt does."""
        import numpy as np

        match = match_of(asked)
        none = np.zeros(0, np.int32)
        if not match or not self._path.exists():
            return Hits(traces=none, problems=none, searched=0)
        with self._open() as base:
            searched = _covered(base, "trace_words")
            return Hits(
                traces=_rows(base, "trace_words", match),
                problems=_rows(base, "problem_words", match),
                searched=searched,
            )

    def build(self, is_stopped: Callable[[], bool]) -> None:
        """Put into the index what is not there yet, one process at a time.

        Raises:
            OSError: the disk.

        """
        tables = self._tables
        with alone(self._path, is_stopped) as may:
            if not may:
                return
            with self._open(writes=True) as base:
                base.executescript(_SCHEMA)
                for name, stage, table, columns in (
                    ("problem_words", "problems", "train", ["prompt"]),
                    ("trace_words", "generate", "traces", ["reasoning", "answer"]),
                ):
                    files = tables.files[stage, table]
                    for first, texts in _texts(files, columns, _covered(base, name)):
                        if is_stopped():
                            return
                        _add(base, name, first, texts)
            touch(self._path)

    @contextlib.contextmanager
    def _open(self, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
        mode = "rwc" if writes else "rw"  # a reader writes the file with which readers are counted
        uri = f"{self._path.absolute().as_uri()}?mode={mode}"
        base = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            base.execute(f"PRAGMA busy_timeout = {_BUSY}")
            if writes:
                base.execute("PRAGMA journal_mode = wal")
                base.execute("PRAGMA synchronous = normal")
            yield base
        finally:
            base.close()


def _add(base: sqlite3.Connection, name: str, first: int, texts: list[str]) -> None:
    """Index texts whose places begin at `first`, and that they are covered, together."""
    base.execute("BEGIN IMMEDIATE")
    try:
        base.executemany(f"INSERT INTO {name}(rowid, text) VALUES (?, ?)", enumerate(texts, first))
        base.execute("UPDATE covered SET rows = ? WHERE name = ?", (first + len(texts), name))
    except BaseException:
        base.execute("ROLLBACK")
        raise
    base.execute("COMMIT")


def _covered(base: sqlite3.Connection, name: str) -> int:
    try:
        row = base.execute("SELECT rows FROM covered WHERE name = ?", (name,)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # it has just been begun
            return 0
        raise
    return int(row[0]) if row else 0


def _rows(base: sqlite3.Connection, name: str, match: str) -> npt.NDArray[np.int32]:
    """The rows that match. They come as one text: a million rows of Python's take three times as
    long.
    """
    import numpy as np

    try:
        found = base.execute(
            f"SELECT group_concat(rowid) FROM {name} WHERE {name} MATCH ?", (match,)
        ).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return np.zeros(0, np.int32)
        raise
    return np.fromstring(found[0] or "", dtype=np.int32, sep=",")


def _texts(files: list[Path], columns: list[str], begin: int) -> Iterator[tuple[int, list[str]]]:
    """The texts of a table from a place on, some at a time, with the place of the first."""
    import pyarrow.parquet as pq

    first = 0
    for path in files:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            rows = file.metadata.num_rows
            if first + rows <= begin:
                first += rows
                continue
            for batch in file.iter_batches(_BATCH, columns=columns):
                skipped = min(max(begin - first, 0), batch.num_rows)
                parts: list[list[Any]] = [
                    batch.column(name).slice(skipped).to_pylist() for name in columns
                ]
                texts = [
                    spaced("\n".join(text for text in row if text))
                    for row in zip(*parts, strict=True)
                ]
                if texts:
                    yield first + skipped, texts
                first += batch.num_rows
