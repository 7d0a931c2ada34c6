"""The process behind `worker.Worker`. Replies are lines of JSON on its standard output.

`{"ready": pid}` when a forked process serves, `{"ended": how}` when one has died; a call's reply
has its `batch`, `seconds`, and a `value` or an `error`, and `leaves` where the process ends by it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any


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
        except BrokenPipeError:  # the parent is gone too
            return


def _answer(function: Callable[..., Any], replies: int, seconds: float, memory: int) -> None:
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
            begin = time.perf_counter()
            try:
                reply = {"value": function(*row)}
            except MemoryError:
                reply = {"error": "MemoryError: out of memory", "leaves": True}
            except Exception as error:  # whatever a checker raises is a finding about this row
                reply = {"error": f"{type(error).__name__}: {error}"[:500]}
            taken = time.perf_counter() - begin
            signal.setitimer(signal.ITIMER_REAL, 0)
            _reply(replies, {**reply, "batch": batch, "seconds": taken})
            if "leaves" in reply:
                os._exit(1)  # what the row left in memory goes with the process
    os._exit(0)


def _reply(fd: int, reply: dict[str, Any]) -> None:
    line = json.dumps(reply).encode() + b"\n"
    while line:
        line = line[os.write(fd, line) :]
