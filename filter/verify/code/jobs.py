"""Jobs for a server, which runs a text once: all inputs of a program, or all calls of a function,
go into one. What comes back is data, which a program may have written itself.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from filter.verify.code.bubblewrap import MEMORY, Ending, NoSandboxError
from filter.verify.code.bundle import bundle
from filter.verify.code.dialogue import ProgramError, Run, silence
from filter.verify.code.inside.host import END, HostJob
from filter.verify.code.inside.runner import Job
from filter.verify.code.service import Execute, Service, UnjudgedError

OUTPUT_BYTES = 8 * 2**20  # it goes to a file first, of which Piston allows 10 MB
_START_SECONDS = 3.0  # for two interpreters, on a machine that has other things to do
_TRIES = 3


class _Result(msgspec.Struct, frozen=True):
    """What a job's host says of a run; `output` in base64."""

    output: bytes
    errors: str
    code: int
    why: Literal["", "time", "output"]


def do_job(
    service: Service, execute: Execute, job: Job, rows: Sequence[str], seconds: float
) -> list[Run]:
    """Runs of a job at a server as a `judging.Machine` makes them, of as many rows as the server
    takes at once.

    Raises:
        ProgramError: the program brought down what runs it, or wrote in its place.
        NoSandboxError: the server fails.
        UnjudgedError: the server can't do it.

    """
    host_job: HostJob = {
        "run": job, "inputs": list(rows), "seconds": seconds, "memory": MEMORY,
        "bytes": OUTPUT_BYTES,
    }  # fmt: skip
    program = bundle(host_job)
    while len(program) > service.largest and len(host_job["inputs"]) > 1:
        del host_job["inputs"][len(host_job["inputs"]) // 2 :]
        program = bundle(host_job)
    if len(program) > service.largest:
        raise UnjudgedError(f"a test is larger than {service.name} takes ({service.largest} bytes)")
    for _ in range(_TRIES):
        reply = execute(program, seconds + _START_SECONDS)
        lines = reply.output.decode("latin-1").split("\n")[:-1]  # the last is cut, or empty
        if runs := [_opened(line) for line in lines if line != END]:
            return runs
        if reply.ending.why == "output":
            raise UnjudgedError(f"{service.name} cuts what programs print: {service.cut}")
        code, how = reply.ending.code, silence(reply.ending, seconds)
        # Its host began, or was killed (a shell's word for a signal is above 128).
        if lines or reply.ending.why or code < 0 or code > 128:
            raise ProgramError(how)
        if code:  # its host failed before it had begun: a program can kill it, but not this
            raise NoSandboxError(
                f"{service.name} does not run a program as it should "
                f"({reply.errors.strip().split(chr(10))[-1][:120] or how}): {service.start}"
            )
    raise NoSandboxError(f"{service.name} gives back nothing of what programs print: {service.cut}")


def _opened(line: str) -> Run:
    """A run from its line (see `inside.host.line`), which a program may have written."""
    try:
        opener = zlib.decompressobj()
        text = opener.decompress(base64.b64decode(line, validate=True), 3 * OUTPUT_BYTES)
        found = msgspec.json.decode(text, type=_Result)
    except (ValueError, RecursionError, zlib.error):
        raise ProgramError("the value is unreadable") from None
    ending = Ending(code=found.code, why=found.why)
    return Run(output=found.output, errors=found.errors, ending=ending, most=OUTPUT_BYTES)
