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
from filter.verify.code.cases import Tests
from filter.verify.code.dialogue import ProgramError, Run, program
from filter.verify.code.e2b import e2b
from filter.verify.code.inside.runner import Job
from filter.verify.code.jobs import do_job
from filter.verify.code.judging import cases_failure
from filter.verify.code.piston import piston
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
    check = _ServerCheck(service, seconds)

    def failure(tests: Tests, blocks: Sequence[str]) -> str | None:
        if isinstance(tests, CheckTests):
            raise UnjudgedError(
                f"the test is code that talks with the program while it runs, which {service.name} "
                "can't do: judge it in bubblewrap"
            )
        check()
        try:
            with service.open() as execute:

                def do(job: Job, rows: Sequence[str]) -> list[Run]:
                    return do_job(service, execute, job, rows, seconds)

                return cases_failure(do, tests, blocks, seconds)
        except NoSandboxError:
            check.passed = False
            raise

    return failure


class _ServerCheck:
    """Checks once that a server runs programs as it should. One that does not is left alone for a
    while, so that it does not cost each of many programs its time.
    """

    def __init__(self, service: Service, seconds: float) -> None:
        self.passed = False
        self._service, self._seconds = service, seconds
        self._trouble, self._until = "", 0.0
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if self.passed:
                return
            if time.monotonic() < self._until:
                raise NoSandboxError(self._trouble)
            try:
                _probe(self._service, self._seconds)
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
                [run] = do_job(service, execute, program(source), [""], seconds)
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
