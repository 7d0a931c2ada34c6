"""Judge programs at a server that runs a text once and gives back what it printed.

A job that ran is over: nothing can be asked of it. So all inputs or calls that fit in a program's
time go into one. A test that is code, which calls the program and uses what it returns, can't
be judged so without putting both into one machine, where the program could reach the test.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence

from filter.verify.code.asserts import CheckTests
from filter.verify.code.bubblewrap import Ending, NoSandboxError
from filter.verify.code.cases import CallTests, StdinTests, Tests
from filter.verify.code.dialogue import ProgramError, read_message
from filter.verify.code.e2b import e2b
from filter.verify.code.failures import load_failure, run_failure, value_failure
from filter.verify.code.inside.runner import Job
from filter.verify.code.inside.wire import pack
from filter.verify.code.jobs import calls, runs, silence
from filter.verify.code.piston import piston
from filter.verify.code.program import whole_program
from filter.verify.code.sandboxfusion import sandboxfusion
from filter.verify.code.service import Service, UnjudgedError
from tracestill.recipe.sandbox import Sandbox

_SERVICES: dict[str, Callable[[Sandbox], Service]] = {
    "piston": piston,
    "sandboxfusion": sandboxfusion,
    "e2b": e2b,
}
_REST_SECONDS = 20.0


def remote(sandbox: Sandbox, seconds: float) -> Callable[[Tests, Sequence[str]], str | None]:
    """A function that says why the blocks of code in an answer fail tests at a server; None where
    they pass.

    It raises
        NoSandboxError: the server fails, or does not keep programs apart.
        UnjudgedError: the server can't run such tests.

    """
    service = _SERVICES[sandbox.service](sandbox)
    check = _ServerCheck()

    def failure(tests: Tests, blocks: Sequence[str]) -> str | None:
        if isinstance(tests, CheckTests):
            raise UnjudgedError(
                f"the test is code that talks with the program while it runs, which {service.name} "
                "can't do: judge it in bubblewrap"
            )
        with check.lock:
            if not check.passed:
                check.run(service, seconds)
        try:
            if isinstance(tests, StdinTests):
                return _stdin_failure(service, tests, whole_program(blocks), seconds)
            return _call_failure(service, tests, blocks, seconds)
        except ProgramError as error:
            return str(error)
        except NoSandboxError:
            check.passed = False
            raise

    return failure


class _ServerCheck:
    """Whether a server runs programs as it should. One that does not is left alone for a while, so
    that it does not cost each of many programs its time.
    """

    def __init__(self) -> None:
        self.passed = False
        self._trouble, self._until = "", 0.0
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self.lock = threading.Lock()

    def run(self, service: Service, seconds: float) -> None:
        if time.monotonic() < self._until:
            raise NoSandboxError(self._trouble)
        try:
            _probe(service, seconds)
        except NoSandboxError as error:
            self._trouble, self._until = str(error), time.monotonic() + _REST_SECONDS
            raise
        self.passed = True


def _probe(service: Service, seconds: float) -> None:
    """Check that what a program prints comes back whole, and that the next program does not find
    a file of its: it could else be influenced by what another model's program left.
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
                failure = run_failure(next(found), expected, tests.tolerance, seconds)
            except ProgramError as error:
                failure = str(error)
            if failure is not None:
                return f"test {number} of {len(tests.cases)}: {failure}"
    return None


def _call_failure(
    service: Service, tests: CallTests, blocks: Sequence[str], seconds: float
) -> str | None:
    count, number = len(tests.cases), 0
    job: Job = {"mode": "calls", "sources": [*blocks], "prelude": True, "name": tests.name}
    with service.open() as execute:
        while number < count:
            messages = [{"arguments": pack(arguments)} for arguments, _ in tests.cases[number:]]
            said = calls(service, execute, job, messages, seconds)
            if said.lines and (failure := load_failure(read_message(said.lines[0]))):
                return failure
            for line in said.lines[1:]:
                expected = tests.cases[number][1]
                failure = value_failure(read_message(line), expected, tests.tolerance)
                number += 1
                if failure is not None:
                    return f"test {number} of {count}: {failure}"
            if len(said.lines) < 2:
                return f"test {number + 1} of {count}: {silence(said.ending, seconds)}"
    return None
