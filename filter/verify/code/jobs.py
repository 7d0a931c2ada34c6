"""A server as a `judging.Machine`: a job runs a program with all inputs, or calls its function with
all arguments. What comes back is data, which a program may have written itself.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from filter.verify.code.bubblewrap import MEMORY, Ending, NoSandboxError
from filter.verify.code.bundle import bundle
from filter.verify.code.dialogue import ProgramError, Run, describe, read_message
from filter.verify.code.inside.host import END, HostJob
from filter.verify.code.inside.runner import Job
from filter.verify.code.inside.wire import Message
from filter.verify.code.service import Execute, Service, UnjudgedError

OUTPUT_BYTES = 8 * 2**20  # it goes to a file first, of which Piston allows 10 MB
_START_SECONDS = 3.0  # for two interpreters, on a machine that has other things to do
_TRIES = 3


class _Result(msgspec.Struct, frozen=True):
    """What a job's host says of a run (`output` in base64), or of a process with its lines."""

    code: int
    why: Literal["", "time", "output", "told"]
    output: bytes = b""
    errors: str = ""
    lines: list[str] = []

    @property
    def ending(self) -> Ending:
        return Ending(code=self.code, why=self.why)


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened at a service for one program.

    Its functions raise
        ProgramError: the program brought down what runs it, or wrote in its place.
        NoSandboxError: the server fails.
        UnjudgedError: the server can't do it.

    """

    service: Service
    execute: Execute

    def runs(self, source: str, texts: Sequence[str], seconds: float) -> Generator[Run, None, None]:
        """A run of the program with each text; those that a job had no time for get another."""
        run: Job = {"mode": "program", "sources": [source], "prelude": True}
        done = 0
        while done < len(texts):
            for result in self._results({"run": run, "inputs": list(texts[done:])}, seconds):
                if result.why == "output":
                    raise ProgramError(_TOO_MUCH)
                yield Run(output=result.output, errors=result.errors, ending=result.ending)
                done += 1

    def replies(
        self, job: Job, messages: Sequence[Message], seconds: float
    ) -> Generator[Message, None, None]:
        """The lines of a process, and of another for the messages that it had no time for."""
        done = 0
        while done < len(messages):
            host_job: HostJob = {"run": job, "messages": list(messages[done:])}
            result = self._results(host_job, seconds)[0]
            for line in result.lines[bool(done) :]:  # the first says that it is ready
                yield read_message(line)
            done += len(result.lines) - 1
            if len(result.lines) < 2:
                raise ProgramError(_silence(result.ending, seconds))

    def _results(self, job: HostJob, seconds: float) -> list[_Result]:
        """The results, at least one, of a job, or of only the first of its inputs or messages where
        all are more than the server takes at once.
        """
        service = self.service
        job |= {"seconds": seconds, "memory": MEMORY, "bytes": OUTPUT_BYTES}
        rows: list[Any] = job["inputs"] if "inputs" in job else job["messages"]
        program = bundle(job)
        while len(program) > service.largest and len(rows) > 1:
            del rows[len(rows) // 2 :]
            program = bundle(job)
        if len(program) > service.largest:
            raise UnjudgedError(
                f"a test is larger than {service.name} takes ({service.largest} bytes)"
            )
        for _ in range(_TRIES):
            reply = self.execute(program, seconds + _START_SECONDS)
            lines = reply.output.decode("latin-1").split("\n")[:-1]  # the last is cut, or empty
            results = [_opened(line) for line in lines if line != END]
            if results:
                return results
            if reply.ending.why == "output":
                raise UnjudgedError(f"{service.name} cuts what programs print: {service.cut}")
            code = reply.ending.code
            # Its host began, or was killed (a shell's word for a signal is above 128).
            if lines or reply.ending.why or code < 0 or code > 128:
                raise ProgramError(_silence(reply.ending, seconds))
            if code:  # its host failed before it had begun: a program can kill it, but not this
                words = reply.errors.strip().split("\n")[-1][:120]
                raise NoSandboxError(
                    f"{service.name} does not run a program as it should "
                    f"({words or _silence(reply.ending, seconds)}): {service.start}"
                )
        raise NoSandboxError(
            f"{service.name} gives back nothing of what programs print: {service.cut}"
        )


_TOO_MUCH = f"printed more than {OUTPUT_BYTES >> 20} MB"


def _silence(ending: Ending, seconds: float) -> str:
    """Why a process said no more."""
    if ending.why == "output":
        return "the value is too large"
    return describe(ending, seconds) or "it ended without an answer"


def _opened(line: str) -> _Result:
    """A result from its line (see `inside.host.line`), which a program may have written."""
    try:
        opener = zlib.decompressobj()
        text = opener.decompress(base64.b64decode(line, validate=True), 3 * OUTPUT_BYTES)
        if opener.eof:
            return msgspec.json.decode(text, type=_Result)
    except (ValueError, RecursionError, zlib.error):
        pass
    raise ProgramError("the value is unreadable")
