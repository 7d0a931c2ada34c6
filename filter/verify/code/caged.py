"""Judge programs in cages on this machine, with which one can talk while they run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from filter.verify.code.cage import Cage
from filter.verify.code.cages import Cages
from filter.verify.code.failures import check_failure, load_failure, run_failure, value_failure
from filter.verify.code.inside.wire import pack
from filter.verify.code.program import with_prompt
from filter.verify.code.talk import ProgramError, Talk, data, run_program
from filter.verify.code.tests_of import CallTests, CheckTests, StdinTests, Tests


def caged(seconds: float) -> Callable[[Tests, str], str | None]:
    """What says why a program fails tests in a cage; None where it passes.

    Raises (what is returned):
        NoSandboxError: there is no cage on this machine.
        CageError: the cage failed.

    """
    cages = Cages()

    def failure(tests: Tests, source: str) -> str | None:
        with cages.borrow(2 if isinstance(tests, CheckTests) else 1) as lent:
            match tests:
                case StdinTests():
                    return _stdin_failure(tests, source, lent[0], seconds)
                case CallTests():
                    return _call_failure(tests, source, lent[0], seconds)
                case CheckTests():
                    return _check_failure(tests, source, lent, seconds)

    return failure


def _stdin_failure(tests: StdinTests, source: str, cage: Cage, seconds: float) -> str | None:
    for number, (text, expected) in enumerate(tests.cases, 1):
        failure = run_failure(run_program(cage, source, text, seconds), expected, seconds)
        if failure is not None:
            return f"test {number} of {len(tests.cases)}: {failure}"
    return None


def _call_failure(tests: CallTests, source: str, cage: Cage, seconds: float) -> str | None:
    count = len(tests.cases)
    job = {"mode": "calls", "sources": [source], "prelude": True, "name": tests.name}
    talk = Talk(cage, job, seconds * (count + 1))
    number = 1
    try:
        # Loading counts as part of the first call.
        end = time.monotonic() + seconds
        if failure := load_failure(talk.receive(end)):
            return failure
        for number, (arguments, expected) in enumerate(tests.cases, 1):
            talk.send({"arguments": pack(arguments)}, end)
            if failure := value_failure(talk.receive(end), expected):
                return f"test {number} of {count}: {failure}"
            end = time.monotonic() + seconds
    except ProgramError as error:
        return f"test {number} of {count}: {error}"
    finally:
        talk.close()
    return None


def _check_failure(tests: CheckTests, source: str, cages: list[Cage], seconds: float) -> str | None:
    """HumanEval's check runs in one cage, the program in another; here pass only data."""
    end = time.monotonic() + seconds
    sources = with_prompt(tests.prompt, source, tests.name)
    of_program = {"mode": "calls", "sources": sources, "prelude": False, "name": tests.name}
    of_check = {
        "mode": "check", "sources": [tests.source], "prelude": False, "name": tests.name,
        "prompt": tests.prompt,
    }  # fmt: skip
    try:
        with (  # both at once: to confine one takes longer than to load it
            contextlib.closing(Talk(cages[0], of_program, seconds)) as program,
            contextlib.closing(Talk(cages[1], of_check, seconds)) as check,
        ):
            if failure := load_failure(program.receive(end)):
                return failure
            while "arguments" in (message := check.receive(end)):
                program.send({"arguments": message["arguments"]}, end)
                check.send(data(program.receive(end)), end)
    except ProgramError as error:
        return str(error)
    return check_failure(message)
