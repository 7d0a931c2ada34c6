"""The pools of processes that the verifiers share: one for each function, bound and width."""

from __future__ import annotations

import os
import threading

from filter.verify.worker import Pool

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
    """Leave to the parent what is the parent's: a thread that this process has not may have held
    a lock when it was forked.
    """
    global _lock
    _lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget)
