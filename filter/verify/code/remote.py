"""Judge programs at a server that runs a text once and gives back what it printed.

A job that ran is over: nothing can be asked of it. So all inputs or calls that fit in a program's
time go into one, and a test that is code, which calls the program and goes on with what it gets,
is run again from its beginning with the values that are known by then. It is never in the
machine that runs the program, and only values come out of either.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from filter.sandbox import Sandbox
from filter.verify.code.cage import Ending, NoSandboxError
from filter.verify.code.e2b import e2b
from filter.verify.code.failures import check_failure, load_failure, run_failure, value_failure
from filter.verify.code.inside.wire import pack
from filter.verify.code.jobs import converse, runs, silence
from filter.verify.code.piston import piston
from filter.verify.code.program import with_prompt
from filter.verify.code.sandboxfusion import sandboxfusion
from filter.verify.code.service import Service, UnjudgedError
from filter.verify.code.talk import ProgramError, data, read_message
from filter.verify.code.tests_of import CallTests, CheckTests, StdinTests, Tests

ROUNDS = 20
_SERVICES: dict[str, Callable[[Sandbox], Service]] = {
    "piston": piston,
    "sandboxfusion": sandboxfusion,
    "e2b": e2b,
}
_REST_SECONDS = 20.0


def remote(sandbox: Sandbox, seconds: float) -> Callable[[Tests, str], str | None]:
    """What says why a program fails tests at a server; None where it passes.

    Raises (what is returned):
        NoSandboxError: the server fails, or does not keep programs apart.
        UnjudgedError: the server can't run such tests.

    """
    service = _SERVICES[sandbox.service](sandbox)
    seen = _Seen()

    def failure(tests: Tests, source: str) -> str | None:
        with seen.lock:
            if not seen.good:
                seen.look(service, seconds)
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
        except NoSandboxError:
            seen.good = False
            raise

    return failure


class _Seen:
    """Whether a server was seen to do as it should. One that was not is not tried for a while, so
    that it does not cost each of many programs its time.
    """

    def __init__(self) -> None:
        self.good = False
        self._trouble, self._until = "", 0.0
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self.lock = threading.Lock()

    def look(self, service: Service, seconds: float) -> None:
        if time.monotonic() < self._until:
            raise NoSandboxError(self._trouble)
        try:
            _probe(service, seconds)
        except NoSandboxError as error:
            self._trouble, self._until = str(error), time.monotonic() + _REST_SECONDS
            raise
        self.good = True


def _probe(service: Service, seconds: float) -> None:
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
                run = next(runs(service, execute, source, [""], seconds))
        except (ProgramError, UnjudgedError) as error:
            raise NoSandboxError(
                f"{service.name} does not run a program as it should ({error}): {service.start}"
            ) from None
        printed.append((run.ending, run.output.strip()))
    good = Ending(code=0, why="")
    if printed[0][0] != good or len(printed[0][1]) != 48_000 or printed[1] != (good, b"False"):
        raise NoSandboxError(
            f"{service.name} does not keep programs apart: {service.start} (docs/sandbox.md)"
        )


def _stdin_failure(service: Service, tests: StdinTests, source: str, seconds: float) -> str | None:
    with service.open() as execute:
        found = runs(service, execute, source, [text for text, _ in tests.cases], seconds)
        for number, (_, expected) in enumerate(tests.cases, 1):
            try:
                failure = run_failure(next(found), expected, seconds)
            except ProgramError as error:
                failure = str(error)
            if failure is not None:
                return f"test {number} of {len(tests.cases)}: {failure}"
    return None


def _call_failure(service: Service, tests: CallTests, source: str, seconds: float) -> str | None:
    count, number = len(tests.cases), 0
    job = {"mode": "calls", "sources": [source], "prelude": True, "name": tests.name}
    with service.open() as execute:
        while number < count:
            messages = [{"arguments": pack(arguments)} for arguments, _ in tests.cases[number:]]
            said = converse(service, execute, job, messages, seconds, part="messages")
            if said.lines and (failure := load_failure(read_message(said.lines[0]))):
                return failure
            for line in said.lines[1:]:
                failure = value_failure(read_message(line), tests.cases[number][1])
                number += 1
                if failure is not None:
                    return f"test {number} of {count}: {failure}"
            if len(said.lines) < 2:
                return f"test {number + 1} of {count}: {silence(said.ending, seconds)}"
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
            said = converse(service, test, check, values, seconds, guess=True)
            messages = [read_message(line) for line in said.lines]
            requests = [m["arguments"] for m in messages if "arguments" in m]
            lines = [json.dumps(request) for request in requests]
            known = 0
            while known < min(len(lines), len(values)) and lines[known] == asked[known]:
                known += 1
            if known == len(lines):  # every value was one that the program gave to that call
                if len(messages) == len(lines):
                    return silence(said.ending, seconds)
                return check_failure(messages[-1])
            script = [{"arguments": request} for request in requests]
            replies = converse(service, program, calls, script, seconds)
            if replies.lines and (failure := load_failure(read_message(replies.lines[0]))):
                return failure
            if len(replies.lines) < known + 2:
                return silence(replies.ending, seconds)
            values = [data(read_message(line)) for line in replies.lines[1:]]
            asked = lines[: len(values)]
    raise UnjudgedError(
        f"the test asks again what it has asked, or more than {ROUNDS} times for what depends on "
        f"the values before: judge it in bubblewrap"
    )
