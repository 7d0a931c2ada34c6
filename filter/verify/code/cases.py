"""Read the tests in a reference, in the shapes in which benchmarks publish them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from filter.verify.code.asserts import CheckTests, evalplus_test, tested_function
from filter.verify.code.compare import text_columns
from filter.verify.code.compressed import unpacked_text
from tracestill.records import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class StdinTests:
    """What a program reads and what it has to print, as in Codeforces, APPS and LiveCodeBench;
    numbers may differ by `tolerance`, and words in the columns `texts` are no numbers.
    """

    cases: tuple[tuple[str, str], ...]
    tolerance: float = 0.0
    texts: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTests:
    """A function's arguments, and the values of which it has to return one; floats in them may
    differ by `tolerance`.
    """

    name: str
    cases: tuple[tuple[list[Any], tuple[Any, ...]], ...]
    tolerance: float = 0.0


Tests = StdinTests | CallTests | CheckTests

# What a problem has whose answers can't be compared with one expected output.
_CHECKERS = ("checker", "checker_code", "generated_checker", "special_judge", "interaction_format")
_LISTS = (
    "tests", "test_cases", "official_tests", "public_test_cases", "private_test_cases",
    "public_tests", "private_tests", "generated_tests",
)  # fmt: skip
_NAMES = ("fn_name", "func_name")


_Case = tuple[Any, Any, Any]
"""An input, an output, and the name of the function that is called, None for a program."""


def read_tests(problem: Problem) -> Tests:
    """The tests in a code problem's reference, which is JSON text. `meta` may hold what benchmarks
    keep beside the tests: the function's name (`func_name`), a `tolerance`, a `checker`.

    Raises:
        ValueError: there are none, their shape is unknown, or they need a checker; the message
            says what is wrong.

    """
    found = _json(problem.reference, "the reference")
    if isinstance(found, str):
        found = _json(unpacked_text(found), "the reference")
    if isinstance(found, list) and found:
        found = {"test_list" if isinstance(found[0], str) else "tests": found}
    if not isinstance(found, dict):
        raise ValueError("the reference is no JSON object, and no list of tests")
    known = {**problem.meta, **found}
    for name in _CHECKERS:
        if checker := known.get(name):
            which = f" ({checker})" if isinstance(checker, str) and checker.isidentifier() else ""
            raise ValueError(
                f"the problem's `{name}`{which} decides which outputs are right, and is not run"
            )
    if "test" in found or "test_list" in found or "plus_input" in found:
        return _check_tests(found, problem.prompt)
    if "input_output" in found:  # a whole row of APPS or TACO
        found = found | _object(found["input_output"])
    tolerance = known.get("tolerance", 0.0)
    if not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        raise ValueError("the problem's `tolerance` is no number from 0 to below 1")
    return _with_cases(
        list(_cases(found, _name(known), str(known.get("starter_code") or ""))), float(tolerance)
    )


def _with_cases(cases: list[_Case], tolerance: float) -> StdinTests | CallTests:
    names = {name for _, _, name in cases}
    if not names:
        raise ValueError("the reference has no tests")
    if len(names) > 1:
        raise ValueError("the reference's tests are for several functions, or of several kinds")
    (name,) = names
    if name is None:
        texts = tuple((_text(given), _text(output)) for given, output, _ in cases)
        columns = text_columns(output for _, output in texts)
        return StdinTests(cases=texts, tolerance=tolerance, texts=columns)
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError("the reference's `fn_name` is no name of a function")
    calls = tuple(_call(given, output) for given, output, _ in cases)
    return CallTests(name=name, cases=calls, tolerance=tolerance)


def _name(found: Mapping[str, Any]) -> Any:
    """The function that is tested, None for a program: LiveCodeBench has it in `metadata`."""
    metadata = found.get("metadata") or {}
    for place in (found, _object(metadata) if isinstance(metadata, dict | str) else {}):
        for key in _NAMES:
            if place.get(key):
                return place[key]
    return None


def _cases(found: Mapping[str, Any], name: Any, starter: str) -> Iterator[_Case]:
    """The cases in an object: two lists, or lists of tests that have an `input` and `output`.
    `starter` is the code to begin with, whose last function is tested where none is named.
    """
    lists = [found[key] for key in _LISTS if found.get(key)]
    if not lists:
        plural = "" if "input" in found else "s"
        inputs, outputs = found.get(f"input{plural}"), found.get(f"output{plural}")
        if not isinstance(inputs, list) or not isinstance(outputs, list):
            raise ValueError("the reference has neither `inputs` and `outputs` nor a `test`")
        if len(inputs) != len(outputs):
            raise ValueError(f"the reference has {len(inputs)} inputs but {len(outputs)} outputs")
        yield from ((i, o, name) for i, o in zip(inputs, outputs, strict=True))
    for tests in lists:
        if isinstance(tests, str):
            tests = _json(unpacked_text(tests), "a list of tests in the reference")
        if isinstance(tests, dict):
            yield from _cases(tests, name, starter)
            continue
        for test in tests:
            if not isinstance(test, dict) or not {"input", "output"} <= test.keys():
                raise ValueError("a test in the reference has no `input` and `output`")
            yield test["input"], test["output"], _name_in(test, name, starter)


def _name_in(test: dict[str, Any], name: Any, starter: str) -> Any:
    kind = str(test.get("testtype") or test.get("type") or "")
    if kind.startswith("stdin"):
        return None
    found = _name(test) or name
    if found is None and kind.startswith("func"):
        if heads := re.findall(r"^\s*def (\w+)\(", starter, re.MULTILINE):
            return heads[-1]
        raise ValueError(
            "the reference calls a function, but neither it nor `meta` has `func_name`"
        )
    return found


def _check_tests(found: dict[str, Any], prompt: str) -> CheckTests:
    name, own = found.get("entry_point"), found.get("prompt", prompt)
    if "test" in found:
        source = found["test"]
    elif "test_list" in found:  # MBPP
        lines = [*(found.get("test_imports") or ()), found.get("test_setup_code") or ""]
        source = "\n".join(map(str, [*lines, *found["test_list"]]))
    else:
        source = evalplus_test(found)
    if not isinstance(source, str) or not source.strip():
        raise ValueError("the reference has no tests")
    if name is None:
        name = tested_function("\n".join(map(str, found.get("test_list") or [source])))
    name = name.removeprefix("Solution().") if isinstance(name, str) else None
    if name is None or not name.isidentifier() or not isinstance(own, str):
        raise ValueError("the reference's `entry_point` is no name of a function")
    return CheckTests(source=source, name=name, prompt=own)


def _json(text: Any, what: str) -> Any:
    try:
        return json.loads(text, parse_int=_integer) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        raise ValueError(f"{what} is no JSON") from None


def _integer(digits: str) -> int:
    """An integer of any length, which `int` does not read from text."""
    return int(digits) if len(digits) < 4000 else int(Decimal(digits))


def _object(value: Any) -> dict[str, Any]:
    found = _json(value, "an object in the reference")
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    """APPS gives some texts as a list of lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if not isinstance(value, str):
        raise ValueError("an input or output in the reference is no text")
    return value


def _call(arguments: Any, expected: Any) -> tuple[list[Any], tuple[Any, ...]]:
    if isinstance(arguments, str):  # LiveCodeBench: each argument is a line of JSON, the value too
        lines = [line for line in arguments.split("\n") if line.strip()]
        return [_json(line, "a call in the reference") for line in lines], (
            _json(expected, "a call in the reference"),
        )
    if not isinstance(arguments, list):
        raise ValueError("a call's arguments in the reference are no list")
    # APPS: some values stand in a list of their own.
    inner = (expected[0],) if isinstance(expected, list) and len(expected) == 1 else ()
    return arguments, (expected, *inner)
