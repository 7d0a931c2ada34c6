"""Do a job at a server, where a program is one text that is run once: the host of a program there,
as the zygote is in bubblewrap. It decides nothing and holds no expected value; a program that
changes it, or writes in its place, can only report other values.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import resource
import signal
import tempfile
import time
import zlib
from typing import TypedDict

from filter.verify.code.inside import runner
from filter.verify.code.inside.wire import Message

END = "."
_TAIL_BYTES = 2048


class HostJob(TypedDict, total=False):
    """A job with the inputs of a program, or the messages that a process is to reply to, and its
    limits: `seconds` for all, `memory` of the process, `bytes` that it may print or send.
    """

    run: runner.Job
    inputs: list[str]
    seconds: float
    memory: int
    bytes: int


def main(job: HostJob) -> None:
    """Do a job, print its results, each a line of `line`, then `END`, and end the process: for a
    program a result for each input up to the first that fails, and without one that did not have
    all its time, as only the first has; one result for a process that gets messages.
    """
    out = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    end = time.monotonic() + job["seconds"]
    runner.prelude()
    is_program = job["run"]["mode"] == "program"
    for number, text in enumerate(job["inputs"] if is_program else ["".join(job["inputs"])]):
        result = _run(job, text.encode(errors="surrogatepass"), end)
        if number and result["why"] == "time":
            break
        if is_program and result["why"] == "output":
            result["output"] = ""
        print(line(result), file=out, flush=True)
        if result["why"] or result["code"]:
            break
    print(END, file=out, flush=True)
    time.sleep(0.01)  # some servers look for output only until the process has ended
    os._exit(0)


def line(result: Message) -> str:
    """A result as a line that no server's idea of text can change."""
    return base64.b64encode(zlib.compress(json.dumps(result).encode(), 1)).decode()


def _run(job: HostJob, text: bytes, end: float) -> Message:
    with (
        tempfile.NamedTemporaryFile() as file,
        open(file.name, "rb") as given,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        file.write(text)
        file.close()  # which none may find, and change
        pid = _start(job, [given.fileno(), output.fileno(), errors.fileno()])
        code, why = _ending(pid, end)
        errors.seek(max(0, os.fstat(errors.fileno()).st_size - _TAIL_BYTES))
        tail = errors.read(_TAIL_BYTES).decode(errors="replace")
        output.seek(0)
        printed = output.read(job["bytes"] + 1)
    if len(printed) > job["bytes"]:
        why = "output"
    return {
        "output": base64.b64encode(printed).decode(), "errors": tail, "code": code, "why": why,
    }  # fmt: skip


def _start(job: HostJob, descriptors: list[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        runner.limit(
            {
                resource.RLIMIT_AS: job["memory"],
                resource.RLIMIT_FSIZE: job["bytes"] + 1,
                resource.RLIMIT_CORE: 0,
            }
        )
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(len(descriptors), 256)
        random.seed(0)  # a program that is judged again must draw the same numbers
        runner.run(job["run"])
    finally:
        os._exit(1)


def _ending(pid: int, end: float) -> tuple[int, str]:
    """Wait for a process's end, or see to it. Its exit code and, if it took too long, `time`."""
    why, pause = "", 0.001
    while True:
        found, status = os.waitpid(pid, 0 if why else os.WNOHANG)
        if found:
            break
        if time.monotonic() >= end:
            why = "time"
            for kill in (os.killpg, os.kill):  # whether or not it has its group by now
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)
            continue
        time.sleep(pause)
        pause = min(0.01, pause * 1.5)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what is left of its group
    return os.waitstatus_to_exitcode(status), why
