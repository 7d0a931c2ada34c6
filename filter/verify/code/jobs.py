"""Jobs for a server: to run a program with each input, or to talk to one whose part in the talk is
known beforehand. What comes back is data, which a program may have written in the host's place.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from filter.verify.code.bundle import bundle
from filter.verify.code.cage import MEMORY, Ending, NoSandboxError
from filter.verify.code.inside.alone import END
from filter.verify.code.service import Execute, Service, UnjudgedError
from filter.verify.code.talk import ProgramError, Run, describe

OUTPUT_BYTES = 8 * 2**20  # it goes to a file first, of which Piston allows 10 MB
_START_SECONDS = 3.0  # for two interpreters, on a machine that has other things to do
_TRIES = 3


def runs(
    service: Service, execute: Execute, source: str, texts: Sequence[str], seconds: float
) -> Iterator[Run]:
    """Run a program with each input, for at most `seconds` each.

    Raises (here and in `converse`):
        ProgramError: the program brought down what runs it, or wrote in its place.
        NoSandboxError: the server fails.
        UnjudgedError: the server can't do it.

    """
    run = {"mode": "program", "sources": [source], "prelude": True}
    done = 0
    while done < len(texts):
        job = {"run": run, "inputs": texts[done:]}
        for result in _results(service, execute, job, seconds, "inputs"):
            yield _run(result)
            done += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The lines that a process sent, and how it ended: `told` where it had nothing left to do."""

    lines: list[str]
    ending: Ending


def converse(
    service: Service,
    execute: Execute,
    run: dict[str, Any],
    messages: Sequence[dict[str, Any]],
    seconds: float,
    *,
    guess: bool = False,
    part: Literal["messages"] | None = None,
) -> Said:
    """Start a process, send it a message for each that it sends, and then guesses, if it is to
    have them; all in `seconds`. With `part`, only some where all are too many.
    """
    job = {"run": run, "messages": messages, "guess": guess}
    result = _results(service, execute, job, seconds, part)[0]
    lines = result.get("lines")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ProgramError("the value is unreadable")
    return Said(lines=lines, ending=_ending(result))


def silence(ending: Ending, seconds: float) -> str:
    """Why a process sent no more."""
    if ending.why == "output":
        return "the value is too large"
    return describe(ending, seconds) or "it ended without an answer"


def _results(
    service: Service,
    execute: Execute,
    job: dict[str, Any],
    seconds: float,
    part: Literal["inputs", "messages"] | None,
) -> list[dict[str, Any]]:
    """Have a job done, or only some of what is in its `part` where it is too large: its results,
    at least one.
    """
    limits = {"seconds": seconds, "memory": MEMORY, "bytes": OUTPUT_BYTES}
    program = bundle({**job, **limits})
    while part and len(program) > service.largest and len(job[part]) > 1:
        job = job | {part: job[part][: len(job[part]) // 2]}
        program = bundle({**job, **limits})
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


def _opened(line: str) -> dict[str, Any]:
    """A result from its line (see `inside.alone.line`), which a program may have written."""
    try:
        opener = zlib.decompressobj()
        text = opener.decompress(base64.b64decode(line, validate=True), 3 * OUTPUT_BYTES)
        result = json.loads(text) if opener.eof else None
    except (ValueError, RecursionError, zlib.error):
        result = None
    if not isinstance(result, dict):
        raise ProgramError("the value is unreadable")
    return result


def _run(result: dict[str, Any]) -> Run:
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


def _ending(result: dict[str, Any]) -> Ending:
    match result:
        case {"code": int(code), "why": "" | "time" | "output" | "told" as why}:
            return Ending(code=code, why=why)
    raise ProgramError("the value is unreadable")
