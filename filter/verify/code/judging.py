"""Why a program fails tests, from what it printed or returned, wherever it ran."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, Protocol

from filter.verify.code.cases import CallTests, StdinTests
from filter.verify.code.compare import difference, same_value, short, show
from filter.verify.code.dialogue import ProgramError, Run, describe, exception_pair
from filter.verify.code.inside.runner import Job
from filter.verify.code.inside.wire import Message, pack
from filter.verify.code.program import whole_program

Failures = Generator[str | None, None, None]


class Machine(Protocol):
    """Where programs run. Both functions raise `ProgramError` where a program failed so that there
    is no more to be had of it.
    """

    def runs(self, source: str, texts: Sequence[str], seconds: float) -> Generator[Run, None, None]:
        """A run of a program with each of the texts as its input, for `seconds` each."""
        ...

    def replies(
        self, job: Job, messages: Sequence[Message], seconds: float
    ) -> Generator[Message, None, None]:
        """What a process says when it is ready, then its reply to each message, all of which have
        `seconds` each; the first has them together with the start.
        """
        ...


def cases_failure(
    machine: Machine, tests: StdinTests | CallTests, blocks: Sequence[str], seconds: float
) -> str | None:
    """Why the program in the blocks of code of an answer fails; None where it passes."""
    if isinstance(tests, StdinTests):
        found = _printed(machine, tests, blocks, seconds)
    else:
        found = _returned(machine, tests, blocks, seconds)
    number = 0
    try:
        with closing(found) as failures:
            for number, failure in enumerate(failures, 1):
                if failure is not None:
                    return f"test {number} of {len(tests.cases)}: {failure}"
    except ProgramError as error:
        return f"test {number + 1} of {len(tests.cases)}: {error}"
    return None


def _printed(
    machine: Machine, tests: StdinTests, blocks: Sequence[str], seconds: float
) -> Failures:
    texts = [text for text, _ in tests.cases]
    with closing(machine.runs(whole_program(blocks), texts, seconds)) as runs:
        for run, (_, expected) in zip(runs, tests.cases, strict=True):
            yield _run_failure(run, expected, tests, seconds)


def _run_failure(run: Run, expected: str, tests: StdinTests, seconds: float) -> str | None:
    failure = describe(run.ending, seconds)
    if failure is None:
        try:
            return difference(run.output.decode(), expected, tests.tolerance, tests.texts)
        except UnicodeDecodeError:
            return "the output is no UTF-8"
    if run.ending.code > 0 and not run.ending.why and run.errors.strip():
        return short(run.errors.strip().split("\n")[-1], quote=False)
    return failure


def _returned(
    machine: Machine, tests: CallTests, blocks: Sequence[str], seconds: float
) -> Failures:
    job: Job = {"mode": "calls", "sources": [*blocks], "prelude": True, "name": tests.name}
    messages = [{"arguments": pack(arguments)} for arguments, _ in tests.cases]
    with closing(machine.replies(job, messages, seconds)) as replies:
        ready = next(replies)
        for _, expected in tests.cases:
            reply = ready if "raised" in ready else next(replies)
            yield raised(reply) or _value_failure(reply, expected, tests.tolerance)


def _value_failure(reply: Message, expected: tuple[Any, ...], tolerance: float) -> str | None:
    value = reply.get("value")
    if "value" in reply and any(same_value(value, one, tolerance) for one in expected):
        return None
    return f"{show(value)}, expected {show(pack(expected[0]))}"


def raised(message: Message) -> str | None:
    """What a program raised, where its message says so.

    Raises:
        ProgramError: that is no exception's name and text.

    """
    if "raised" not in message:
        return None
    name, text = exception_pair(message["raised"])
    return short(f"{name}: {text}", quote=False)


def check_failure(message: Message) -> str | None:
    """Why a test that is code failed, from its last message; None if it passed."""
    if message.get("passed") is True:
        return None
    match message.get("failed"):
        case [str(name), str(text), str(line)]:
            said, where = short(f"{name}: {text}", quote=False), short(line, quote=False)
            return f"{said} in {where or 'the test'}"
    return "the test's last word is unreadable"
