"""One function in a process of its own, which is killed when a call takes too long.

Checkers that evaluate an answer (sympy behind math-verify and behind some of reasoning-gym's
scorers) can compute without end on an answer such as `9^{9^{9^9}}`, inside C code where no
exception and no signal handler of Python's runs. Only killing the process ends that.

A worker is two processes (`worker_process`): one loads the function and does nothing but fork the
other, which serves. So a killed one is replaced in milliseconds, by one that no call has touched.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

START_SECONDS = 120.0
MEMORY = 4 * 2**30
_SERVE = "from filter.verify.worker_process import serve; serve()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one call: the function's `value`, or an `error` that says why there is none (it
    raised, took too long, or its process died), after so many `seconds` of wall time.
    """

    value: Any = None
    error: str | None = None
    seconds: float


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

    def call_many(self, rows: Sequence[Sequence[Any]]) -> list[Result]:
        """The result for each row of arguments. A row that kills the process costs no other row
        its value.

        Raises:
            RuntimeError: the process can't be started.

        """
        results: list[Result] = []
        with self._lock:
            while len(results) < len(rows):
                try:
                    self._serve_some(rows[len(results) :], results)
                except BaseException:  # interrupted: a late reply must not meet the next call
                    self._end()
                    raise
        return results

    def close(self) -> None:
        """End the process, if there is one."""
        if self._owner != os.getpid():  # forked: the process is the parent's, and the lock may be
            return  # held for good by a thread that only the parent has
        with self._lock:
            self._end()

    def _serve_some(self, rows: Sequence[Sequence[Any]], results: list[Result]) -> None:
        """Send rows and append their results until all are there or the process is gone."""
        process = self._running()
        assert process.stdin is not None
        self._batch += 1
        with contextlib.suppress(BrokenPipeError):  # it is gone, as its missing reply will tell
            process.stdin.write(json.dumps([self._batch, rows]).encode() + b"\n")
            process.stdin.flush()
        for _ in rows:
            begin = time.monotonic()
            reply = self._read(self._seconds)
            while reply is not None and reply.get("batch", self._batch) != self._batch:
                reply = self._read(self._seconds)  # to what its predecessor was asked
            if reply is None:
                reply = {"error": f"timed out after {self._seconds:g} s", "leaves": True}
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._serving, signal.SIGKILL)
            elif "ended" in reply:
                error = f"the verifier's process ended: {reply['ended']}"
                reply = {"error": error, "leaves": True}
            seconds = reply.get("seconds", time.monotonic() - begin)
            results.append(
                Result(value=reply.get("value"), error=reply.get("error"), seconds=seconds)
            )
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
            if "ended" in news:  # while it was idle, as where the kernel ran out of memory
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
