"""Cages that are kept warm between programs."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from filter.verify.code.cage import Cage


class Cages:
    """Lends cages to threads, each to one at a time, and keeps those that are whole."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.close)

    def _reset(self) -> None:
        # After a fork the cages, the lock and the starter's thread are those of the parent.
        self._lock = threading.Lock()
        self._idle: list[Cage] = []
        # A cage ends with the thread that started it; this one lasts.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cages")

    @contextlib.contextmanager
    def borrow(self, count: int) -> Iterator[list[Cage]]:
        """Lend some cages.

        Raises:
            NoSandboxError: there is no cage on this machine.

        """
        lent: list[Cage] = []
        whole = False
        try:
            while len(lent) < count:
                lent.append(self._take())
            yield lent
            whole = True
        finally:
            for cage in lent:
                self._give_back(cage, whole)

    def _take(self) -> Cage:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._starter.submit(Cage).result()

    def _give_back(self, cage: Cage, whole: bool) -> None:
        with self._lock:
            room = len(self._idle) < 2 + (os.cpu_count() or 1)
            if whole and room and not cage.closed and not cage.busy:
                self._idle.append(cage)
                return
        cage.close()

    def close(self) -> None:
        """End the cages that are not lent."""
        with self._lock:
            idle, self._idle = self._idle, []
        for cage in idle:
            cage.close()
