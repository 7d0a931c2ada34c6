"""Pools of workers, which the graders share: one for each function, bound and width."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from filter.verify.worker import MEMORY, Result, Worker

_BATCH = 16  # rows that one worker is sent at once


class Pool:
    """Up to `workers` workers of one function, each started when it is first needed.

    Threads may share it; each call takes a worker that is free.
    """

    def __init__(self, opener: str, *, workers: int, seconds: float, memory: int = MEMORY) -> None:
        self._workers = workers
        self._free = [Worker(opener, seconds=seconds, memory=memory) for _ in range(workers)]
        self._changed = threading.Condition()

    def map(self, rows: Iterable[Sequence[Any]]) -> list[Result]:
        """The function's result for each row of arguments, in order, by all workers at once.

        Raises:
            RuntimeError: a worker's process can't be started.

        """
        rows = list(rows)
        size = max(1, min(_BATCH, -(-len(rows) // (4 * self._workers))))
        batches = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
        if len(batches) == 1:
            return self._call(batches[0])
        threads = ThreadPoolExecutor(self._workers)
        try:
            return [result for part in threads.map(self._call, batches) for result in part]
        finally:  # where it was interrupted, only the batches that are under way are waited for
            threads.shutdown(cancel_futures=True)

    def close(self) -> None:
        """End the processes of the workers that are free."""
        with self._changed:
            for worker in self._free:
                worker.close()

    def _call(self, rows: Sequence[Sequence[Any]]) -> list[Result]:
        with self._changed:
            while not self._free:
                self._changed.wait()
            worker = self._free.pop()  # the one used last, so that no more start than are needed
        try:
            return worker.call_many(rows)
        finally:
            with self._changed:
                self._free.append(worker)
                self._changed.notify()


_Key = tuple[str, float, int, int]
_pools: dict[_Key, Pool] = {}
_lock = threading.Lock()


def shared_pool(opener: str, *, seconds: float, workers: int | None, memory: int) -> Pool:
    """The pool of `opener` with these bounds (see `worker.Worker`), the same for all who ask in
    this process; `workers` of None is one a core that this process may use.
    """
    key = (opener, seconds, _cores() if workers is None else workers, memory)
    with _lock:
        if key not in _pools:
            _pools[key] = Pool(opener, seconds=seconds, workers=key[2], memory=memory)
        return _pools[key]


def close_pools() -> None:
    """End the processes of every shared pool; what needs one starts another."""
    with _lock:
        for pool in _pools.values():
            pool.close()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _forget() -> None:
    """Leave to the parent what is the parent's: a thread that this process does not have may have
    held a lock when it was forked.
    """
    global _lock
    _lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget)
