"""A function in processes of their own, which are killed when a row takes too long.

Checkers that evaluate an answer (sympy behind math-verify and behind some of reasoning-gym's
scorers) can compute without end on an answer such as `9^{9^{9^9}}`, inside C code where no
exception and no signal handler of Python's runs. Only killing the process ends that.

A worker is two processes: one loads the function and does nothing but fork the other, which
serves. So a killed one is replaced in milliseconds, by one that no row has touched.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

START_SECONDS = 120.0
MEMORY = 4 * 2**30
BATCH = 16
_SERVE = "from filter.verify.worker import serve; serve()"


class WorkerError(Exception):
    """The call gave no value: the function raised, took too long, or its process died."""


class Worker:
    """Calls one function in one lasting process; a call that takes too long ends the process,
    and another takes its place.

    `opener` names (`package.module:name`) a function that is called once in the process and
    returns the function to serve. Arguments and values travel as JSON. `seconds` bounds each
    call, `memory` (bytes) the process's address space. Threads may share it.
    """

    def __init__(self, opener: str, *, seconds: float, memory: int = MEMORY) -> None:
        self._opener = opener
        self._seconds = seconds
        self._memory = memory
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._batch = 0
        self._serving = 0  # the forked process's id
        self._unread = b""

    def call(self, *arguments: Any) -> Any:
        """The function's value.

        Raises:
            WorkerError: it raised, timed out, or died; the message says which.
            RuntimeError: the process can't be started.

        """
        value = self.call_many([arguments])[0]
        if isinstance(value, WorkerError):
            raise value
        return value

    def call_many(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """The function's value for each row of arguments, or a `WorkerError` in its place: a row
        that kills the process costs no other row its value.

        Raises:
            RuntimeError: the process can't be started.

        """
        values: list[Any] = []
        with self._lock:
            while len(values) < len(rows):
                try:
                    self._serve_some(rows[len(values) :], values)
                except BaseException:  # interrupted: a late answer must not meet the next call
                    self._end()
                    raise
        return values

    def close(self) -> None:
        """End the process, if there is one."""
        if self._owner != os.getpid():  # forked: the process is the parent's, and the lock may be
            return  # held for good by a thread that only the parent has
        with self._lock:
            self._end()

    def _serve_some(self, rows: Sequence[Sequence[Any]], values: list[Any]) -> None:
        """Send rows and append their values until all are there or the process is gone."""
        process = self._running()
        assert process.stdin is not None
        self._batch += 1
        with contextlib.suppress(BrokenPipeError):  # it is gone, as the reply that is none tells
            process.stdin.write(json.dumps([self._batch, rows]).encode() + b"\n")
            process.stdin.flush()
        for _ in rows:
            reply = self._read(self._seconds)
            while reply is not None and reply.get("batch", self._batch) != self._batch:
                reply = self._read(self._seconds)  # to what its predecessor was asked
            if reply is None:
                values.append(WorkerError(f"timed out after {self._seconds:g} s"))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._serving, signal.SIGKILL)
                self._await_ready()
                return
            if "ended" in reply:
                values.append(WorkerError(f"the verifier's process ended: {reply['ended']}"))
                self._await_ready()
                return
            values.append(WorkerError(reply["error"]) if "error" in reply else reply["value"])
            if "leaves" in reply:
                self._await_ready()
                return

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():  # forked: the process is the parent's, which talks to it
            self._process, self._owner, self._unread = None, os.getpid(), b""
        while self._process is not None:
            news = self._read(0.0)
            if news is None:
                return self._process
            if "ended" in news:  # while nobody asked anything, as where memory ran out elsewhere
                self._await_ready(news)
        atexit.unregister(self.close)
        atexit.register(self.close)
        arguments = json.dumps([self._opener, self._seconds, self._memory])
        self._unread = b""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", _SERVE, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A BLAS that reserves memory for each of many cores would use up the limit.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the parent, which ends this one itself
        )
        self._await_ready()
        if self._process is None:
            raise RuntimeError(f"the process for {self._opener} did not start")
        return self._process

    def _await_ready(self, news: dict[str, Any] | None = None) -> None:
        """Wait until a fresh process serves; if none comes, leave no process at all."""
        while True:
            reply = news or self._read(START_SECONDS)
            news = None
            if reply is None or reply.get("ended") == "all":
                self._end()
                return
            if "ready" in reply:
                self._serving = reply["ready"]
                return

    def _read(self, seconds: float) -> dict[str, Any] | None:
        """One reply; None if it took too long."""
        assert self._process is not None
        assert self._process.stdout is not None
        fd, end = self._process.stdout.fileno(), time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, end - time.monotonic())):
                    return None
                part = os.read(fd, 1 << 16)
                if not part:
                    return {"ended": "all"}
                self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Pool:
    """Up to `workers` workers of one function, each started when it is first needed.

    Threads may share it; each call takes a worker that is free.
    """

    def __init__(self, opener: str, *, workers: int, seconds: float, memory: int = MEMORY) -> None:
        self._workers = workers
        self._free = [Worker(opener, seconds=seconds, memory=memory) for _ in range(workers)]
        self._changed = threading.Condition()

    def call(self, *arguments: Any) -> Any:
        """As `Worker.call`."""
        worker = self._take()
        try:
            return worker.call(*arguments)
        finally:
            self._give(worker)

    def map(self, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """The function's value for each row of arguments, in order, or a `WorkerError` in its
        place. Rows go out in batches of 16, fewer where there are not enough for all workers.
        """
        rows = list(rows)
        size = max(1, min(BATCH, -(-len(rows) // (4 * self._workers))))
        batches = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
        threads = ThreadPoolExecutor(self._workers)
        try:
            return [value for part in threads.map(self._batch, batches) for value in part]
        finally:  # where it was interrupted, only the batches that are under way are waited for
            threads.shutdown(cancel_futures=True)

    def close(self) -> None:
        """End the processes of the workers that are free."""
        with self._changed:
            for worker in self._free:
                worker.close()

    def _batch(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        worker = self._take()
        try:
            return worker.call_many(rows)
        finally:
            self._give(worker)

    def _take(self) -> Worker:
        with self._changed:
            while not self._free:
                self._changed.wait()
            return self._free.pop()  # the one used last, so that no more start than are needed

    def _give(self, worker: Worker) -> None:
        with self._changed:
            self._free.append(worker)
            self._changed.notify()


def serve() -> None:
    """Fork a process that answers calls from standard input, and another when it ends, until the
    input ends. This is the process's main function.
    """
    opener, seconds, memory = json.loads(sys.argv[1])
    replies = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not end up among the replies
    logging.disable()
    module, name = opener.split(":")
    function = getattr(importlib.import_module(module), name)()
    while True:
        child = os.fork()
        if not child:
            try:
                _answer(function, replies, seconds, memory)
            finally:  # even where a row raised SystemExit: the loop is the other process's
                os._exit(70)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            return
        try:
            _reply(replies, {"ended": f"signal {-status}" if status < 0 else f"code {status}"})
        except BrokenPipeError:  # whom to tell is gone too
            return


def _answer(function: Any, replies: int, seconds: float, memory: int) -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    _reply(replies, {"ready": os.getpid()})
    for line in sys.stdin:
        batch, rows = json.loads(line)
        for row in rows:
            # Ends this process where the parent was killed and can't. No handler: the kernel's.
            signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 1)
            reply: dict[str, Any]
            try:
                reply = {"value": function(*row)}
            except MemoryError:
                reply = {"error": "MemoryError: out of memory", "leaves": True}
            except Exception as error:  # whatever a checker raises is a finding about this row
                reply = {"error": f"{type(error).__name__}: {error}"[:500]}
            signal.setitimer(signal.ITIMER_REAL, 0)
            _reply(replies, {**reply, "batch": batch})
            if "leaves" in reply:
                os._exit(1)  # what the row left in memory goes with the process
    os._exit(0)


def _reply(fd: int, reply: dict[str, Any]) -> None:
    line = json.dumps(reply).encode() + b"\n"
    while line:
        line = line[os.write(fd, line) :]
