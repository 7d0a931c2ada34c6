"""One run at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_SECONDS = 5.0  # the time that the stages of a killed run may take to end


@contextlib.contextmanager
def locked(run: Path) -> Iterator[int]:
    """Hold a run's folder; gives the lock's descriptor. The stages' processes inherit it: it is
    free only once all of them are gone, however the run ended.

    Raises:
        ValueError: another process holds it.

    """
    fd = os.open(run / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    owner = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
                    raise ValueError(
                        f"another tracestill (process {owner}) works in {run}; wait for it, or "
                        "give this run another folder with --out"
                    ) from error
                time.sleep(0.1)
        os.truncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield fd
    finally:
        os.close(fd)


def held(run: Path) -> bool:
    """Whether a process works in a run's folder. A run that begins just then waits a moment."""
    try:
        fd = os.open(run / ".lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
