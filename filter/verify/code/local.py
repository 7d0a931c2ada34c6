"""Judge programs in bubblewrap on this machine, in dialogue with them while they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from filter.verify.code.asserts import CheckTests
from filter.verify.code.bubblewrap import Bubblewrap
from filter.verify.code.bubblewrap_pool import BubblewrapPool
from filter.verify.code.cases import Tests
from filter.verify.code.dialogue import Dialogue, ProgramError, Run, checked_reply, run_program
from filter.verify.code.inside.runner import Job
from filter.verify.code.inside.wire import Message
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
            return cases_failure(_Lent(lent[0]), tests, blocks, seconds)

    return failure


@dataclass(frozen=True, slots=True)
class _Lent:
    """A sandbox as a `judging.Machine`."""

    sandbox: Bubblewrap

    def runs(self, source: str, texts: Sequence[str], seconds: float) -> Generator[Run, None, None]:
        for text in texts:
            yield run_program(self.sandbox, source, text, seconds)

    def replies(
        self, job: Job, messages: Sequence[Message], seconds: float
    ) -> Generator[Message, None, None]:
        with closing(Dialogue(self.sandbox, job, seconds * (len(messages) + 1))) as dialogue:
            end = time.monotonic() + seconds
            yield dialogue.receive(end)
            for message in messages:
                dialogue.send(message, end)
                yield dialogue.receive(end)
                end = time.monotonic() + seconds


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
            closing(Dialogue(sandboxes[0], of_program, seconds)) as program,
            closing(Dialogue(sandboxes[1], of_check, seconds)) as check,
        ):
            if failure := raised(program.receive(end)):
                return failure
            while "arguments" in (message := check.receive(end)):
                asked = {"arguments": message["arguments"], "named": message.get("named")}
                program.send(asked, end)
                check.send(checked_reply(program.receive(end)), end)
    except ProgramError as error:
        return str(error)
    return check_failure(message)
