"""Jobs for a server: run a program with each input, or call its function with each of some
arguments. What comes back is data, which a program may have written in the host's place.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from filter.verify.code.bubblewrap import MEMORY, Ending, NoSandboxError
from filter.verify.code.bundle import bundle
from filter.verify.code.dialogue import ProgramError, Run, describe
from filter.verify.code.inside.host import END, HostJob
from filter.verify.code.inside.runner import Job
from filter.verify.code.inside.wire import Message
from filter.verify.code.service import Execute, Service, UnjudgedError

OUTPUT_BYTES = 8 * 2**20  # it goes to a file first, of which Piston allows 10 MB
_START_SECONDS = 3.0  # for two interpreters, on a machine that has other things to do
_TRIES = 3


def runs(
    service: Service, execute: Execute, source: str, texts: Sequence[str], seconds: float
) -> Iterator[Run]:
    """Run a program with each input, for at most `seconds` each.

    Raises (here and in `calls`):
        ProgramError: the program brought down what runs it, or wrote in its place.
        NoSandboxError: the server fails.
        UnjudgedError: the server can't do it.

    """
    run: Job = {"mode": "program", "sources": [source], "prelude": True}
    done = 0
    while done < len(texts):
        job: HostJob = {"run": run, "inputs": list(texts[done:])}
        for result in _results(service, execute, job, seconds):
            yield _run(result)
            done += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The lines that a process sent, and how it ended: `told` where all its messages were read."""

    lines: list[str]
    ending: Ending


def calls(
    service: Service,
    execute: Execute,
    run: Job,
    messages: Sequence[Message],
    seconds: float,
) -> Said:
    """Start a process and send it a message for each that it sends, all in `seconds`; only the
    first messages where all are more than the server takes at once.
    """
    job: HostJob = {"run": run, "messages": list(messages)}
    result = _results(service, execute, job, seconds)[0]
    lines = result.get("lines")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ProgramError("the value is unreadable")
    return Said(lines=lines, ending=_ending(result))


def silence(ending: Ending, seconds: float) -> str:
    """Why a process sent no more."""
    if ending.why == "output":
        return "the value is too large"
    return describe(ending, seconds) or "it ended without an answer"


def _results(service: Service, execute: Execute, job: HostJob, seconds: float) -> list[Message]:
    """The results, at least one, of a job, or of only the first of its inputs or messages where all
    are more than the server takes at once.
    """
    job |= {"seconds": seconds, "memory": MEMORY, "bytes": OUTPUT_BYTES}
    rows: list[Any] = job["inputs"] if "inputs" in job else job["messages"]
    program = bundle(job)
    while len(program) > service.largest and len(rows) > 1:
        del rows[len(rows) // 2 :]
        program = bundle(job)
    if len(program) > service.largest:
        raise UnjudgedError(f"a test is larger than {service.name} takes ({service.largest} bytes)")
    for _ in range(_TRIES):
        reply = execute(program, seconds + _START_SECONDS)
        lines = reply.output.split("\n")[:-1]  # the last is cut, or empty
        whole = bool(lines) and lines[-1] == END
        results = [_opened(line) for line in lines if line != END]
        if results:
            return results
        if reply.ending.why == "output":
            raise UnjudgedError(f"{service.name} cuts what programs print: {service.cut}")
        code = reply.ending.code
        if whole or reply.ending.why or code < 0 or code > 128:  # a shell's word for a signal
            raise ProgramError(silence(reply.ending, seconds))
        if code:  # its host failed before it had begun: a program can kill it, but not this
            words = reply.errors.strip().split("\n")[-1][:120]
            raise NoSandboxError(
                f"{service.name} does not run a program as it should "
                f"({words or silence(reply.ending, seconds)}): {service.start}"
            )
    raise NoSandboxError(f"{service.name} gives back nothing of what programs print: {service.cut}")


def _opened(line: str) -> Message:
    """A result from its line (see `inside.host.line`), which a program may have written."""
    try:
        opener = zlib.decompressobj()
        text = opener.decompress(base64.b64decode(line, validate=True), 3 * OUTPUT_BYTES)
        result = json.loads(text) if opener.eof else None
    except (ValueError, RecursionError, zlib.error):
        result = None
    if not isinstance(result, dict):
        raise ProgramError("the value is unreadable")
    return result


def _run(result: Message) -> Run:
    output, errors = result.get("output"), result.get("errors")
    if isinstance(output, str) and isinstance(errors, str):
        try:
            content = base64.b64decode(output, validate=True)
        except ValueError:
            content = None
        if result.get("why") == "output":
            raise ProgramError(f"printed more than {OUTPUT_BYTES >> 20} MB")
        if content is not None:
            return Run(output=content, errors=errors, ending=_ending(result))
    raise ProgramError("the value is unreadable")


def _ending(result: Message) -> Ending:
    match result:
        case {"code": int(code), "why": "" | "time" | "output" | "told" as why}:
            return Ending(code=code, why=why)
    raise ProgramError("the value is unreadable")
