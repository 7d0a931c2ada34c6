"""Judge programs in bubblewrap on this machine, in dialogue with them while they run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from filter.verify.code.asserts import CheckTests
from filter.verify.code.bubblewrap import Bubblewrap
from filter.verify.code.bubblewrap_pool import BubblewrapPool
from filter.verify.code.cases import CallTests, StdinTests, Tests
from filter.verify.code.dialogue import Dialogue, ProgramError, checked_reply, run_program
from filter.verify.code.failures import check_failure, load_failure, run_failure, value_failure
from filter.verify.code.inside.runner import Job
from filter.verify.code.inside.wire import pack
from filter.verify.code.program import whole_program, with_prompt


def local(seconds: float) -> Callable[[Tests, Sequence[str]], str | None]:
    """A function that says why the blocks of code in an answer fail tests in bubblewrap; None where
    they pass.

    It raises
        NoSandboxError: bubblewrap can't be started on this machine.
        SandboxError: the sandbox failed.

    """
    pool = BubblewrapPool()

    def failure(tests: Tests, blocks: Sequence[str]) -> str | None:
        with pool.borrow(2 if isinstance(tests, CheckTests) else 1) as lent:
            match tests:
                case StdinTests():
                    return _stdin_failure(tests, whole_program(blocks), lent[0], seconds)
                case CallTests():
                    return _call_failure(tests, blocks, lent[0], seconds)
                case CheckTests():
                    return _check_failure(tests, blocks, lent, seconds)

    return failure


def _stdin_failure(
    tests: StdinTests, source: str, sandbox: Bubblewrap, seconds: float
) -> str | None:
    for number, (text, expected) in enumerate(tests.cases, 1):
        run = run_program(sandbox, source, text, seconds)
        failure = run_failure(run, expected, tests.tolerance, seconds)
        if failure is not None:
            return f"test {number} of {len(tests.cases)}: {failure}"
    return None


def _call_failure(
    tests: CallTests, blocks: Sequence[str], sandbox: Bubblewrap, seconds: float
) -> str | None:
    count = len(tests.cases)
    job: Job = {"mode": "calls", "sources": [*blocks], "prelude": True, "name": tests.name}
    dialogue = Dialogue(sandbox, job, seconds * (count + 1))
    number = 1
    try:
        # Loading counts as part of the first call.
        end = time.monotonic() + seconds
        if failure := load_failure(dialogue.receive(end)):
            return failure
        for number, (arguments, expected) in enumerate(tests.cases, 1):
            dialogue.send({"arguments": pack(arguments)}, end)
            if failure := value_failure(dialogue.receive(end), expected, tests.tolerance):
                return f"test {number} of {count}: {failure}"
            end = time.monotonic() + seconds
    except ProgramError as error:
        return f"test {number} of {count}: {error}"
    finally:
        dialogue.close()
    return None


def _check_failure(
    tests: CheckTests, blocks: Sequence[str], sandboxes: list[Bubblewrap], seconds: float
) -> str | None:
    """HumanEval's check runs in one sandbox, the program in another; only data passes between."""
    end = time.monotonic() + seconds
    sources = with_prompt(tests.prompt, blocks, tests.name)
    of_program: Job = {"mode": "calls", "sources": sources, "prelude": False, "name": tests.name}
    of_check: Job = {
        "mode": "check", "sources": [tests.source], "prelude": False, "name": tests.name,
        "prompt": tests.prompt,
    }  # fmt: skip
    try:
        with (  # both at once: to confine one takes longer than to load it
            contextlib.closing(Dialogue(sandboxes[0], of_program, seconds)) as program,
            contextlib.closing(Dialogue(sandboxes[1], of_check, seconds)) as check,
        ):
            if failure := load_failure(program.receive(end)):
                return failure
            while "arguments" in (message := check.receive(end)):
                asked = {"arguments": message["arguments"], "named": message.get("named")}
                program.send(asked, end)
                check.send(checked_reply(program.receive(end)), end)
    except ProgramError as error:
        return str(error)
    return check_failure(message)
