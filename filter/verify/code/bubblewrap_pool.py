"""Sandboxes that are kept warm between programs."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from filter.verify.code.bubblewrap import Bubblewrap


class BubblewrapPool:
    """Lends sandboxes to threads, each to one at a time, and keeps those that still work."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.close)

    def _reset(self) -> None:
        # After a fork the sandboxes, the lock and the starter's thread are the parent's.
        self._lock = threading.Lock()
        self._idle: list[Bubblewrap] = []
        # A bubblewrap ends with the thread that started it; this one lasts.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bubblewrap")

    @contextlib.contextmanager
    def borrow(self, count: int) -> Iterator[list[Bubblewrap]]:
        """Lend some sandboxes.

        Raises:
            NoSandboxError: none can be started on this machine.

        """
        lent: list[Bubblewrap] = []
        whole = False
        try:
            while len(lent) < count:
                lent.append(self._take())
            yield lent
            whole = True
        finally:
            for sandbox in lent:
                self._give_back(sandbox, whole)

    def _take(self) -> Bubblewrap:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._starter.submit(Bubblewrap).result()

    def _give_back(self, sandbox: Bubblewrap, whole: bool) -> None:
        with self._lock:
            room = len(self._idle) < 2 + (os.cpu_count() or 1)
            if whole and room and not sandbox.closed and not sandbox.busy:
                self._idle.append(sandbox)
                return
        sandbox.close()

    def close(self) -> None:
        """End the sandboxes that are not lent."""
        with self._lock:
            idle, self._idle = self._idle, []
        for sandbox in idle:
            sandbox.close()
