"""The sandbox's first process: a warm interpreter that forks a confined process for each job.

It runs no program itself and reads nothing that a program wrote. Its standard input is a socket
to the parent: a request with descriptors in (job, input, output, errors), how the process
ended out.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from filter.verify.code.inside import confine, runner

_EVERY = 0.05  # seconds between looks at the memory in use
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Serve requests until the parent closes the socket."""
    control = socket.socket(fileno=os.dup(0))
    hello = json.loads(control.recv(1 << 14))
    runner.prelude()
    gc.freeze()  # what is never collected is not copied by a child that collects
    if hello["uid"] is not None:
        confine.become(hello["uid"])
    confine.die_with_parent()
    sys.path.extend(hello["path"])
    system_calls = base64.b64decode(hello["system_calls"])
    control.send(b"{}")
    while True:
        text, descriptors, _, _ = socket.recv_fds(control, 1 << 12, 4)
        if not text:
            return
        if text.isdigit():
            continue  # to stop a job that has ended by itself meanwhile
        reply = _serve(control, json.loads(text), descriptors, system_calls)
        control.send(json.dumps(reply).encode())


def _serve(
    control: socket.socket,
    request: dict[str, Any],
    descriptors: list[int],
    system_calls: bytes,
) -> dict[str, Any]:
    end = time.monotonic() + request["seconds"]
    out, into = os.pipe()
    middle = os.fork()
    if middle == 0:
        _lend_namespaces(into, descriptors, request, system_calls)
    for descriptor in (into, *descriptors):
        os.close(descriptor)
    with os.fdopen(out) as report:
        lines = report.read().splitlines()
    os.waitpid(middle, 0)
    pid = next((int(line) for line in lines if line.isdecimal()), None)
    trouble = next((line for line in lines if not line.isdecimal()), None)
    if pid is None or trouble is not None:
        if pid is not None:
            os.waitpid(pid, 0)
        return {"trouble": trouble or "no process"}
    why = _watch(control, pid, end, request)
    return {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "why": why}


def _lend_namespaces(
    into: int, descriptors: list[int], request: dict[str, Any], system_calls: bytes
) -> None:
    """In a process in between: enter new namespaces and leave a child in them as process 1, so
    that the kernel ends all that is left when the program ends.
    """
    try:
        confine.unshare()
        pid = os.fork()
        if pid == 0:
            _become_program(into, descriptors, request, system_calls)
        os.write(into, f"{pid}\n".encode())
    except OSError as error:
        os.write(into, f"{error}\n".encode())
    finally:
        os._exit(0)


def _become_program(
    into: int, descriptors: list[int], request: dict[str, Any], system_calls: bytes
) -> None:
    try:
        # Out of the way of the numbers that they are to get.
        job, *standard = (fcntl.fcntl(number, fcntl.F_DUPFD, 64) for number in descriptors)
        report = fcntl.fcntl(into, fcntl.F_DUPFD, 64)
        with os.fdopen(job) as file:
            what = json.load(file)
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
        os.closerange(len(standard), report)
        os.closerange(report + 1, report + 1024)
        os.setsid()  # else kill(0, …) would reach the zygote, which is in its group
        confine.confine(request["seconds"], request["memory"], system_calls)
    except OSError as error:
        os.write(report, f"{error}\n".encode())
        os._exit(1)
    try:
        os.close(report)
        runner.run(what)
    finally:
        os._exit(1)


def _watch(control: socket.socket, pid: int, end: float, request: dict[str, Any]) -> str:
    """Wait for a process to end, or kill it; why it was killed, if it was."""
    process = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(control, select.POLLIN)
    why = ""
    while True:
        left = end - time.monotonic()
        ready = [number for number, _ in poll.poll(1000 * min(_EVERY, max(0.0, left)))]
        if process in ready:
            break
        told = control.recv(64) if ready else None
        if told == b"":
            os._exit(0)  # the parent has gone; with this process ends all in the sandbox
        if told == b"%d" % request["number"]:
            why = "told"
        elif left <= 0:
            why = "time"
        elif _memory_in_use() > request["memory"]:
            why = "memory"
        if why:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            break
    poll.unregister(control)
    poll.poll()
    os.close(process)
    return why


def _memory_in_use() -> int:
    """Bytes that the processes in the sandbox hold, this one aside: rlimits count each alone."""
    pages = 0
    for name in os.listdir("/proc"):
        if name.isdecimal() and name != "1":
            with contextlib.suppress(OSError):  # it has ended
                pages += int(Path(f"/proc/{name}/statm").read_bytes().split()[1])
    return pages * _PAGE
