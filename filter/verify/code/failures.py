"""Why a test fails, from what a program said, wherever it ran."""

from __future__ import annotations

from typing import Any

from filter.verify.code.compare import difference, same_value, short, show
from filter.verify.code.dialogue import Run, describe, exception_pair
from filter.verify.code.inside.wire import Message, pack


def run_failure(run: Run, expected: str, tolerance: float, seconds: float) -> str | None:
    """Why a run that had `seconds` did not print what is expected; None if it did."""
    failure = describe(run.ending, seconds)
    if failure is None:
        try:
            return difference(run.output.decode(), expected, tolerance)
        except UnicodeDecodeError:
            return "the output is no UTF-8"
    if run.ending.code > 0 and not run.ending.why and run.errors.strip():
        return short(run.errors.strip().split("\n")[-1], quote=False)
    return failure


def load_failure(message: Message) -> str | None:
    """Why a program, after its first message, can't be called; None if it can."""
    return _raised(message["raised"]) if "raised" in message else None


def value_failure(reply: Message, expected: tuple[Any, ...], tolerance: float) -> str | None:
    """Why a reply to a call is none of the values that are expected; None if it is one."""
    if "raised" in reply:
        return _raised(reply["raised"])
    value = reply.get("value")
    if "value" in reply and any(same_value(value, one, tolerance) for one in expected):
        return None
    return f"{show(value)}, expected {show(pack(expected[0]))}"


def check_failure(message: Message) -> str | None:
    """Why a test that is code failed, from its last message; None if it passed."""
    if message.get("passed") is True:
        return None
    match message.get("failed"):
        case [str(name), str(text), str(line)]:
            return (
                f"{short(f'{name}: {text}', quote=False)} in "
                f"{short(line or 'the test', quote=False)}"
            )
    return "the test's last word is unreadable"


def _raised(described: object) -> str:
    name, text = exception_pair(described)
    return short(f"{name}: {text}", quote=False)
