"""Why a program fails tests, from what it printed or returned, wherever it ran."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from filter.verify.code.cases import CallTests, StdinTests
from filter.verify.code.compare import difference, same_value, short, show
from filter.verify.code.dialogue import (
    ProgramError,
    Run,
    describe,
    exception_pair,
    program,
    read_message,
    silence,
)
from filter.verify.code.inside.runner import Job
from filter.verify.code.inside.wire import Message, pack
from filter.verify.code.program import whole_program

Machine = Callable[[Job, Sequence[str]], list[Run]]
"""Runs a program with the first of some inputs, at least one, or sends a process that replies to
them the first of some lines, in the time of one test. It raises `ProgramError` where the program
failed so that there is nothing to be judged."""


def cases_failure(
    machine: Machine, tests: StdinTests | CallTests, blocks: Sequence[str], seconds: float
) -> str | None:
    """Why the program in the blocks of code of an answer fails; None where it passes."""
    if isinstance(tests, StdinTests):
        failures = _printed(machine, tests, whole_program(blocks), seconds)
    else:
        failures = _returned(machine, tests, blocks, seconds)
    number = 0
    try:
        for number, failure in enumerate(failures, 1):
            if failure is not None:
                return f"test {number} of {len(tests.cases)}: {failure}"
    except ProgramError as error:
        return f"test {number + 1} of {len(tests.cases)}: {error}"
    return None


def _printed(
    machine: Machine, tests: StdinTests, source: str, seconds: float
) -> Iterator[str | None]:
    done = 0
    while left := tests.cases[done:]:
        runs = machine(program(source), [text for text, _ in left])
        for run, (_, expected) in zip(runs, left, strict=False):
            yield _run_failure(run, expected, tests, seconds)
            done += 1


def _returned(
    machine: Machine, tests: CallTests, blocks: Sequence[str], seconds: float
) -> Iterator[str | None]:
    job: Job = {"mode": "calls", "sources": [*blocks], "prelude": True, "name": tests.name}
    calls = [json.dumps({"arguments": pack(given)}) + "\n" for given, _ in tests.cases]
    done = 0
    while left := tests.cases[done:]:
        run = machine(job, calls[done:])[0]
        ready, *replies = run.output.split(b"\n")[:-1] or [b"{}"]
        if failure := raised(read_message(ready)):
            yield failure
        if not replies:
            raise ProgramError(silence(run.ending, seconds))
        for line, (_, expected) in zip(replies, left, strict=False):
            reply = read_message(line)
            yield raised(reply) or _value_failure(reply, expected, tests.tolerance)
            done += 1


def _run_failure(run: Run, expected: str, tests: StdinTests, seconds: float) -> str | None:
    failure = describe(run.ending, seconds, run.most)
    if failure is None:
        try:
            return difference(run.output.decode(), expected, tests.tolerance, tests.texts)
        except UnicodeDecodeError:
            return "the output is no UTF-8"
    if run.ending.code > 0 and not run.ending.why and run.errors.strip():
        return short(run.errors.strip().split("\n")[-1], quote=False)
    return failure


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
