"""A function in a process of its own, which is killed when it takes too long.

Checkers that evaluate an answer (sympy behind math-verify and behind some of reasoning-gym's
scorers) can compute without end on an answer such as `9^{9^{9^9}}`, inside C code where no
exception and no signal handler of Python's runs. Only killing the process ends that.
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
from typing import Any

START_SECONDS = 120.0
MEMORY = 4 * 2**30
_SERVE = "from filter.verify.worker import serve; serve()"


class WorkerError(Exception):
    """The call gave no value: the function raised, took too long, or its process died."""


class Worker:
    """Calls one function in one lasting process; a call that takes too long ends the process,
    and the next call starts another.

    `opener` names (`package.module:name`) a function that is called once in the process and
    returns the function to serve. Arguments and values travel as JSON. Threads may share it.
    """

    def __init__(self, opener: str, *, seconds: float, memory: int = MEMORY) -> None:
        self._opener = opener
        self._seconds = seconds
        self._memory = memory
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, *arguments: Any) -> Any:
        """The function's value.

        Raises:
            WorkerError: it raised, timed out, or died; the message says which.
            RuntimeError: the process can't be started.

        """
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(arguments).encode() + b"\n")
                process.stdin.flush()
                line = _read_line(process, self._seconds)
            except BrokenPipeError:
                line = b""
            except BaseException:  # interrupted: the late answer must not meet the next call
                self._end()
                raise
            if line is None:
                self._end()
                raise WorkerError(f"timed out after {self._seconds:g} s")
            if not line:
                raise WorkerError(f"the verifier's process ended with code {self._end()}")
            reply = json.loads(line)
            if "error" in reply:
                raise WorkerError(reply["error"])
            return reply["value"]

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        atexit.unregister(self.close)
        atexit.register(self.close)
        arguments = json.dumps([self._opener, self._seconds, self._memory])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", _SERVE, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A BLAS that reserves memory for each of many cores would use up the limit.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the parent, which ends this one itself
        )
        if not _read_line(self._process, START_SECONDS):
            code = self._end()
            raise RuntimeError(f"the process for {self._opener} did not start (code {code})")
        return self._process

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return code


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """One line of the process's output; empty if it ended, None if it took too long."""
    assert process.stdout is not None
    fd, end, line = process.stdout.fileno(), time.monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, end - time.monotonic())):
                return None
            part = os.read(fd, 1 << 16)
            if not part:
                return b""
            line += part
    return line


def serve() -> None:
    """Answer calls from standard input until it ends. This is the process's main function."""
    opener, seconds, memory = json.loads(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not end up among the replies
    logging.disable()
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    module, name = opener.split(":")
    function = getattr(importlib.import_module(module), name)()
    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        # Ends this process where the parent was killed and can't. No handler: the kernel does it.
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
        try:
            reply = {"value": function(*json.loads(line))}
        except Exception as error:  # whatever a checker raises is a finding about this row
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
