"""Judge programs at a server that runs a text once and gives back what it printed.

A job that ran is over: nothing can be asked of it. So all inputs or calls that fit in a program's
time go into one, and a test that is code, which calls the program and goes on with what it gets,
is run again from its beginning with the values that are known by then. It is never in the
machine that runs the program, and only values come out of either.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from filter.sandbox import Sandbox
from filter.verify.code.bundle import bundle
from filter.verify.code.cage import MEMORY, Ending, NoSandboxError
from filter.verify.code.e2b import e2b
from filter.verify.code.failures import check_failure, load_failure, run_failure, value_failure
from filter.verify.code.inside.alone import END
from filter.verify.code.inside.wire import pack
from filter.verify.code.piston import piston
from filter.verify.code.program import with_prompt
from filter.verify.code.sandboxfusion import sandboxfusion
from filter.verify.code.service import Execute, Service, UnjudgedError
from filter.verify.code.talk import (
    ProgramError,
    Run,
    data,
    describe,
    read_message,
)
from filter.verify.code.tests_of import CallTests, CheckTests, StdinTests, Tests

ROUNDS = 30
OUTPUT_BYTES = 8 * 2**20  # it goes to a file first, of which Piston allows 10 MB
_SERVICES: dict[str, Callable[[Sandbox], Service]] = {
    "piston": piston,
    "sandboxfusion": sandboxfusion,
    "e2b": e2b,
}
_START_SECONDS = 3.0  # for two interpreters, on a machine that has other things to do
_TRIES = 3


def remote(sandbox: Sandbox, seconds: float) -> Callable[[Tests, str], str | None]:
    """What says why a program fails tests at a server; None where it passes.

    Raises (what is returned):
        NoSandboxError: the server fails, or does not keep programs apart.
        UnjudgedError: the server can't run such tests.

    """
    service = _SERVICES[sandbox.service](sandbox)
    lock = threading.Lock()
    probed = False

    def failure(tests: Tests, source: str) -> str | None:
        nonlocal probed
        with lock:
            if not probed:
                _probe(service)
                probed = True
        try:
            match tests:
                case StdinTests():
                    return _stdin_failure(service, tests, source, seconds)
                case CallTests():
                    return _call_failure(service, tests, source, seconds)
                case CheckTests():
                    return _check_failure(service, tests, source, seconds)
        except ProgramError as error:
            return str(error)

    return failure


def _probe(service: Service) -> None:
    """See that a program comes back whole, and that the next does not find what it left: it could
    else lie in wait for a test that is code.
    """
    mark = f"/tmp/tracestill-{secrets.token_hex(8)}"
    leave = f"import os\nopen({mark!r}, 'w').close()\nprint(os.urandom(24_000).hex())"
    look = f"import os\nprint(os.path.exists({mark!r}))"
    printed = []
    for source in (leave, look):
        try:
            with service.open() as execute:
                run = next(_runs(service, execute, source, [""], 10.0))
        except (ProgramError, UnjudgedError) as error:
            raise NoSandboxError(
                f"{service.name} does not run a program as it should ({error}): {service.cut}"
            ) from None
        printed.append((run.ending, run.output.strip()))
    good = Ending(code=0, why="")
    if printed[0][0] != good or len(printed[0][1]) != 48_000 or printed[1] != (good, b"False"):
        raise NoSandboxError(
            f"{service.name} does not keep programs apart: run it isolated (docs/sandbox.md)"
        )


def _stdin_failure(service: Service, tests: StdinTests, source: str, seconds: float) -> str | None:
    with service.open() as execute:
        runs = _runs(service, execute, source, [text for text, _ in tests.cases], seconds)
        for number, (_, expected) in enumerate(tests.cases, 1):
            try:
                failure = run_failure(next(runs), expected, seconds)
            except ProgramError as error:
                failure = str(error)
            if failure is not None:
                return f"test {number} of {len(tests.cases)}: {failure}"
    return None


def _runs(
    service: Service, execute: Execute, source: str, texts: Sequence[str], seconds: float
) -> Iterator[Run]:
    """Run a program with each input."""
    run = {"mode": "program", "sources": [source], "prelude": True}
    done = 0
    while done < len(texts):
        job = {"run": run, "inputs": texts[done:]}
        for result in _results(service, execute, job, seconds, "inputs"):
            yield _run(result)
            done += 1


def _call_failure(service: Service, tests: CallTests, source: str, seconds: float) -> str | None:
    count, number = len(tests.cases), 0
    job = {"mode": "calls", "sources": [source], "prelude": True, "name": tests.name}
    with service.open() as execute:
        while number < count:
            messages = [{"arguments": pack(arguments)} for arguments, _ in tests.cases[number:]]
            said = _converse(service, execute, job, messages, seconds, part="messages")
            if said.lines and (failure := load_failure(read_message(said.lines[0]))):
                return failure
            for line in said.lines[1:]:
                failure = value_failure(read_message(line), tests.cases[number][1])
                number += 1
                if failure is not None:
                    return f"test {number} of {count}: {failure}"
            if len(said.lines) < 2:
                return f"test {number + 1} of {count}: {_silence(said.ending, seconds)}"
    return None


def _check_failure(service: Service, tests: CheckTests, source: str, seconds: float) -> str | None:
    """Run the test with the values that are known, let it guess the others to learn what it may
    ask further, and let the program answer all of that; until no guess is needed.
    """
    sources = with_prompt(tests.prompt, source, tests.name)
    calls = {"mode": "calls", "sources": sources, "prelude": False, "name": tests.name}
    check = {
        "mode": "check", "sources": [tests.source], "prelude": False, "name": tests.name,
        "prompt": tests.prompt, "guess": True,
    }  # fmt: skip
    asked: list[str] = []
    values: list[dict[str, Any]] = []
    with ExitStack() as stack:
        program = stack.enter_context(service.open())
        test = stack.enter_context(service.open())
        for _ in range(ROUNDS):
            said = _converse(service, test, check, values, seconds, guess=True)
            messages = [read_message(line) for line in said.lines]
            requests = [m["arguments"] for m in messages if "arguments" in m]
            lines = [json.dumps(request) for request in requests]
            known = 0
            while known < min(len(lines), len(values)) and lines[known] == asked[known]:
                known += 1
            if known == len(lines):  # every value was one that the program gave to that call
                if len(messages) == len(lines):
                    return _silence(said.ending, seconds)
                return check_failure(messages[-1])
            script = [{"arguments": request} for request in requests]
            replies = _converse(service, program, calls, script, seconds)
            if replies.lines and (failure := load_failure(read_message(replies.lines[0]))):
                return failure
            if len(replies.lines) < known + 2:
                return _silence(replies.ending, seconds)
            values = [data(read_message(line)) for line in replies.lines[1:]]
            asked = lines[: len(values)]
    raise UnjudgedError(
        f"the test asks again what it has asked, or more than {ROUNDS} times for what depends on "
        f"the values before: judge it in bubblewrap"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """The lines that a process sent, and how it ended: `told` where it had nothing left to do."""

    lines: list[str]
    ending: Ending


def _converse(
    service: Service,
    execute: Execute,
    run: dict[str, Any],
    messages: Sequence[dict[str, Any]],
    seconds: float,
    *,
    guess: bool = False,
    part: Literal["messages"] | None = None,
) -> _Said:
    job = {"run": run, "messages": messages, "guess": guess}
    result = _results(service, execute, job, seconds, part)[0]
    lines = result.get("lines")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ProgramError("the value is unreadable")
    return _Said(lines=lines, ending=_ending(result))


def _silence(ending: Ending, seconds: float) -> str:
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

    Raises:
        ProgramError: the program brought down what runs it, or wrote in its place.
        NoSandboxError: the server fails.
        UnjudgedError: the server can't do it.

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
        if whole or reply.ending != Ending(code=0, why=""):
            said = reply.errors.strip().split("\n")[-1]
            raise ProgramError(said[:120] or _silence(reply.ending, seconds))
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
