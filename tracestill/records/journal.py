"""An append-only journal: one JSON line a finished response, on disk before anything reads it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

SYNC_SECONDS = 1.0


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
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # torn: the writer repairs it when it opens the journal
            try:
                yield json.loads(line), offset
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number} is damaged ({error}); every other line is whole: "
                    f"remove that line (sed -i {number}d) and run again"
                ) from error
            offset += len(line)


class Journal:
    """Appends rows; each is handed to the kernel at once and synced at least once a second."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        repair(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._dirty = False
        self._failed: OSError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sync_loop, name="journal-sync", daemon=True)
        self._thread.start()

    def append(self, row: dict[str, Any]) -> None:
        """Write one row.

        Raises:
            OSError: the disk is full or fails; what was appended before stays readable.

        """
        if self._failed is not None:
            raise self._failed
        line = json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        view = memoryview(line)
        while view:
            view = view[os.write(self._fd, view) :]
        self._dirty = True

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
