"""Judge programs in bubblewrap on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from filter.verify.code.asserts import CheckTests
from filter.verify.code.bubblewrap import Bubblewrap
from filter.verify.code.bubblewrap_pool import BubblewrapPool
from filter.verify.code.cases import Tests
from filter.verify.code.dialogue import Dialogue, ProgramError, Run, checked_reply, run_job
from filter.verify.code.inside.runner import Job
from filter.verify.code.judging import cases_failure, check_failure, raised
from filter.verify.code.program import with_prompt


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
            if isinstance(tests, CheckTests):
                return _check_failure(tests, blocks, lent, seconds)

            def do(job: Job, rows: Sequence[str]) -> list[Run]:
                text = rows[0] if job["mode"] == "program" else "".join(rows)
                return [run_job(lent[0], job, text, seconds)]

            return cases_failure(do, tests, blocks, seconds)

    return failure


def _check_failure(
    tests: CheckTests, blocks: Sequence[str], sandboxes: list[Bubblewrap], seconds: float
) -> str | None:
    """HumanEval's check runs in one sandbox, the program in another; only data passes between."""
    sources = with_prompt(tests.prompt, blocks, tests.name)
    of_program: Job = {"mode": "calls", "sources": sources, "prelude": False, "name": tests.name}
    of_check: Job = {
        "mode": "check", "sources": [tests.source], "prelude": False, "name": tests.name,
        "prompt": tests.prompt,
    }  # fmt: skip
    try:
        with (  # both at once: to confine one takes longer than to load it
            closing(Dialogue(sandboxes[0], of_program, seconds)) as program,
            closing(Dialogue(sandboxes[1], of_check, seconds)) as check,
        ):
            if failure := raised(program.receive()):
                return failure
            while "arguments" in (message := check.receive()):
                asked = {"arguments": message["arguments"], "named": message.get("named")}
                program.send(asked)
                check.send(checked_reply(program.receive()))
    except ProgramError as error:
        return str(error)
    return check_failure(message)
