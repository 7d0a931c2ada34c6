"""Read the tests in a reference, in the shapes in which benchmarks publish them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StdinTests:
    """What a program reads and what it has to print, as in Codeforces, APPS and LiveCodeBench."""

    cases: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTests:
    """A function's arguments, and the values of which it has to return one."""

    name: str
    cases: tuple[tuple[list[Any], tuple[Any, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTests:
    """A test that is code, as in HumanEval: it defines `check(candidate)`, or calls the function
    by its name.
    """

    source: str
    name: str
    prompt: str


Tests = StdinTests | CallTests | CheckTests


def read_tests(reference: str, prompt: str) -> Tests:
    """The tests in a code problem's reference, which is JSON text; `prompt` is the problem's, for
    a test that comes without one.

    Raises:
        ValueError: there are none, or their shape is unknown; the message says what is wrong.

    """
    try:
        found = json.loads(reference)
    except (ValueError, RecursionError):
        raise ValueError("the reference is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("the reference is no JSON object")
    if "test" in found:
        return _check_tests(found, prompt)
    inputs, outputs = found.get("inputs"), found.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise ValueError("the reference has neither `inputs` and `outputs` nor a `test`")
    if len(inputs) != len(outputs):
        raise ValueError(f"the reference has {len(inputs)} inputs but {len(outputs)} outputs")
    if not inputs:
        raise ValueError("the reference has no tests")
    name = found.get("fn_name")
    if not name:
        cases = tuple((_text(i), _text(o)) for i, o in zip(inputs, outputs, strict=True))
        return StdinTests(cases=cases)
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError("the reference's `fn_name` is no name of a function")
    return CallTests(
        name=name, cases=tuple(_call(i, o) for i, o in zip(inputs, outputs, strict=True))
    )


def _check_tests(found: dict[str, Any], prompt: str) -> CheckTests:
    source, name, own = found["test"], found.get("entry_point"), found.get("prompt", prompt)
    if not isinstance(source, str) or not source.strip():
        raise ValueError("the reference has no tests")
    if not isinstance(name, str) or not name.isidentifier() or not isinstance(own, str):
        raise ValueError("the reference's `entry_point` is no name of a function")
    return CheckTests(source=source, name=name, prompt=own)


def _text(value: Any) -> str:
    """APPS gives some texts as a list of lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if not isinstance(value, str):
        raise ValueError("an input or output in the reference is no text")
    return value


def _call(arguments: Any, expected: Any) -> tuple[list[Any], tuple[Any, ...]]:
    if isinstance(arguments, str):  # LiveCodeBench: each argument is a line of JSON, the value too
        try:
            lines = [json.loads(line) for line in arguments.split("\n") if line.strip()]
            return lines, (json.loads(expected) if isinstance(expected, str) else expected,)
        except (ValueError, RecursionError):
            raise ValueError("a call in the reference is no JSON") from None
    if not isinstance(arguments, list):
        raise ValueError("a call's arguments in the reference are no list")
    # APPS: some values stand in a list of their own.
    inner = (expected[0],) if isinstance(expected, list) and len(expected) == 1 else ()
    return arguments, (expected, *inner)
