"""Which tables of a run there are to look at, and where the indexes of them lie."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tracestill.records import Manifest, digest, missing_file, read_manifest
from tracestill.records.content import cache_folder

COLUMNS_VERSION, TEXT_VERSION = 1, 1  # raised when an index is laid out in another way
_KEPT_DAYS = 30
_WAIT = 0.2  # seconds between two tries
_STAGES = ("problems", "generate", "filter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of a run's complete stages: their Parquet files, by stage and name."""

    run: Path
    files: dict[tuple[str, str], list[Path]]
    rows: dict[tuple[str, str], int]
    columns_key: str
    """Of all that the index of the columns is made of."""
    text_key: str
    """Of the traces and problems alone, whose words are searched."""

    def paths(self, stage: str, name: str) -> list[str]:
        """The files of a table as texts; none where there is no such table."""
        return [str(path) for path in self.files.get((stage, name), [])]

    @property
    def traces(self) -> int:
        """How many traces there are."""
        return self.rows["generate", "traces"]

    @property
    def is_filtered(self) -> bool:
        """Whether the filter is complete."""
        return ("filter", "drops") in self.files


def read_tables(run: Path) -> Tables | None:
    """The tables of a run; None where its traces are not all there yet.

    Raises:
        ValueError: a manifest is not readable.

    """
    there: dict[str, Manifest] = {}
    for stage in _STAGES:
        manifest = read_manifest(run / stage)
        if manifest is None or missing_file(run / stage, manifest) is not None:
            break
        there[stage] = manifest
    if "generate" not in there:
        return None
    shards = {
        (stage, name): shards
        for stage, manifest in there.items()
        for name, shards in manifest.tables.items()
    }
    hashes = {table: [one.sha256 for one in found] for table, found in shards.items()}
    text = [hashes["problems", "train"], hashes["generate", "traces"]]
    every = [[*table, found] for table, found in sorted(hashes.items())]
    return Tables(
        run=run,
        files={table: [run / table[0] / s.file for s in found] for table, found in shards.items()},
        rows={table: sum(s.rows for s in found) for table, found in shards.items()},
        columns_key=digest("columns", COLUMNS_VERSION, every),
        text_key=digest("text", TEXT_VERSION, text),
    )


def state_of(run: Path) -> tuple[tuple[int, int], ...]:
    """What changes when a stage that is looked at becomes complete or is made again."""
    found = []
    for stage in _STAGES:
        try:
            stat = (run / stage / "manifest.json").stat()
        except FileNotFoundError:
            found.append((0, 0))
        else:
            found.append((stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def index_path(key: str, suffix: str) -> Path:
    """Where an index lies: in the user's cache, for no other user to read. It can be made again."""
    folder = cache_folder() / "view"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"{key}.{suffix}"


def forget_old() -> None:
    """Remove the indexes that nobody has opened for a month."""
    folder = cache_folder() / "view"
    oldest = time.time() - _KEPT_DAYS * 86_400
    for path in folder.glob("*"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(path: Path, is_stopped: Callable[[], bool]) -> Iterator[bool]:
    """Wait until no other process or thread makes an index. Gives false where it was stopped
    before.
    """
    fd = os.open(path.with_suffix(f"{path.suffix}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not (held := _lock(fd)) and not is_stopped():
            time.sleep(_WAIT)
        yield held
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def touch(path: Path) -> None:
    """Say that an index is in use."""
    os.utime(path)
