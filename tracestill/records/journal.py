"""An append-only journal: one JSON line a finished response, on disk before anything reads it.

Beside it may lie an index (`<name>.index`): of each line the place and the few values that a
resuming run asks for, so that it need not read what may be many gigabytes. It is derived: one
that is missing, short or does not fit is made up from the journal.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from tracestill.records.files import sync_folder

SYNC_SECONDS = 1.0
_TAIL = 1 << 16  # bytes of an index in which its last entry is looked for


def repair(path: Path) -> int:
    """Cut a torn last line off a journal and return how many bytes were cut.

    A line is whole when its newline is there: it is written last, in the same call.
    """
    if not path.exists():
        return 0
    size = path.stat().st_size
    with path.open("rb+") as file:
        end, block = size, 1 << 16
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
    return size - end


def read(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a journal, each with its line's byte offset, in the order of writing.

    Raises:
        ValueError: a whole line is not JSON, which no crash of ours leaves behind.

    """
    return ((row, offset) for row, offset, _ in _lines(path, 0))


def _lines(path: Path, begin: int) -> Iterator[tuple[dict[str, Any], int, int]]:
    """The rows from the line at a byte offset on, each with its line's offset and length."""
    if not path.exists():
        return
    offset = begin
    with path.open("rb") as file:
        file.seek(begin)
        for line in file:
            if not line.endswith(b"\n"):
                return  # torn: the writer repairs it when it opens the journal
            try:
                yield json.loads(line), offset, len(line)
            except ValueError as error:
                file.seek(0)
                number = file.read(offset).count(b"\n") + 1
                raise ValueError(
                    f"{path}, line {number} is damaged ({error}); every other line is whole: "
                    f"remove that line (sed -i {number}d) and run again"
                ) from error
            offset += len(line)


def index_path(journal: Path) -> Path:
    """Where a journal's index lies."""
    return journal.with_name(journal.name + ".index")


def read_heads(path: Path, keys: Sequence[str]) -> Iterator[tuple[list[Any], int]]:
    """Of each row of a journal the values of `keys` (None where a row has none such) and its
    line's byte offset, in the order of writing: from the index as far as it goes.

    Raises:
        ValueError: a line that the index does not cover is not JSON.

    """
    for values, offset, _ in _heads(path, keys, 0):
        yield values, offset


def follow(path: Path, keys: Sequence[str], begin: int) -> Iterator[tuple[list[Any], int]]:
    """As `read_heads`, of the rows from the byte offset `begin` on, at which a line begins; with
    each row where its line ends, from where to follow the journal later.

    Raises:
        ValueError: as `read_heads`.

    """
    for values, offset, length in _heads(path, keys, begin):
        yield values, offset + length


def _heads(path: Path, keys: Sequence[str], begin: int) -> Iterator[tuple[list[Any], int, int]]:
    """The values of `keys` in each row from `begin` on, with its line's offset and length."""
    end = begin
    if begin == 0:
        for values, offset, length in _indexed(path, keys):
            end = offset + length
            yield values, offset, length
    for row, offset, length in _lines(path, end):
        yield [row.get(key) for key in keys], offset, length


def _indexed(path: Path, keys: Sequence[str]) -> Iterator[tuple[list[Any], int, int]]:
    """The index's entries (values, offset, length) if it is one of these keys and of this
    journal, as far as they are whole and leave no line out; none if not.
    """
    index = index_path(path)
    if not index.exists() or not path.exists() or not _fits(path, index, keys):
        return
    size, end = path.stat().st_size, 0
    with index.open("rb") as file:
        next(file)
        for line in file:
            try:
                offset, length, *values = json.loads(line)
            except ValueError:  # a loss of power may leave blocks of zeros behind
                return
            if offset != end or offset + length > size:
                return
            end = offset + length
            yield values, offset, length


def _fits(path: Path, index: Path, keys: Sequence[str]) -> bool:
    """Whether the index has these keys and its last entry within the journal is as it says: where
    someone took a line out of the journal, none after it is.
    """
    size = path.stat().st_size
    with index.open("rb") as file, path.open("rb") as journal:
        if file.readline() != _header(keys):
            return False
        last: list[Any] | None = None
        begin, end = file.tell(), file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - _TAIL))
        if file.tell() > begin:
            file.readline()  # of which only the end is here
        for line in file:
            if not line.endswith(b"\n"):
                return False
            try:
                entry = json.loads(line)
            except ValueError:
                return False
            if entry[0] + entry[1] <= size:
                last = entry
        if last is None:
            return end == begin
        journal.seek(last[0])
        line = journal.read(last[1])
        if not line.endswith(b"\n") or b"\n" in line[:-1]:
            return False
        try:
            row = json.loads(line)
        except ValueError:
            return False
        return [row.get(key) for key in keys] == last[2:]


def _header(keys: Sequence[str]) -> bytes:
    return json.dumps(["offset", "length", *keys]).encode() + b"\n"


def _entry(offset: int, length: int, values: Sequence[Any]) -> bytes:
    return json.dumps([offset, length, *values], separators=(",", ":")).encode() + b"\n"


def _line(row: dict[str, Any]) -> bytes:
    """A row as a line: by msgspec, which takes a seventh of the time that json takes for a long
    answer, except for what is no valid Unicode.
    """
    try:
        return msgspec.json.encode(row) + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


class Journal:
    """Appends rows; each is handed to the kernel at once and synced at least once a second.

    With `keys` an index of those values is kept beside it.
    """

    def __init__(self, path: Path, keys: Sequence[str] = ()) -> None:
        new = [one for one in (path, *path.parents) if not one.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        repair(path)
        self._keys = tuple(keys)
        self._index = self._open_index(path) if keys else None
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for one in new:  # else a loss of power takes the file, whatever was synced of its content
            sync_folder(one.parent)
        self._end = os.fstat(self._fd).st_size
        self._dirty = False
        self._failed: OSError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sync_loop, name="journal-sync", daemon=True)
        self._thread.start()

    def _open_index(self, path: Path) -> BinaryIO:
        """The index, made to cover exactly what is in the journal."""
        index = index_path(path)
        covered, cut = 0, len(_header(self._keys))
        if index.exists():
            for values, offset, length in _indexed(path, self._keys):
                covered = offset + length
                cut += len(_entry(offset, length, values))
        if not covered:
            index.write_bytes(_header(self._keys))
            cut = len(_header(self._keys))
        os.truncate(index, cut)
        file = index.open("ab")
        for row, offset, length in _lines(path, covered):
            file.write(_entry(offset, length, [row.get(key) for key in self._keys]))
        return file

    def append(self, row: dict[str, Any]) -> int:
        """Write one row and return its line's byte offset.

        Raises:
            OSError: the disk is full or fails; what was appended before stays readable.

        """
        if self._failed is not None:
            raise self._failed
        line = _line(row)
        offset, view = self._end, memoryview(line)
        while view:
            written = os.write(self._fd, view)
            self._end += written
            view = view[written:]
        self._dirty = True
        if self._index is not None:
            values = [row.get(key) for key in self._keys]
            self._index.write(_entry(offset, len(line), values))
        return offset

    def _sync_loop(self) -> None:
        while not self._stop.wait(SYNC_SECONDS / 2):
            self._sync()

    def _sync(self) -> None:
        if self._dirty:
            self._dirty = False
            try:
                os.fsync(self._fd)
            except OSError as error:
                self._failed = error  # raised by the next append, in the writer's own thread

    def close(self) -> None:
        """Sync and close."""
        self._stop.set()
        self._thread.join()
        self._sync()
        os.close(self._fd)
        if self._index is not None:
            self._index.close()
        if self._failed is not None:
            raise self._failed

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
