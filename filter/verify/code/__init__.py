"""Judge programs by running their problem's tests in a cage."""

from __future__ import annotations

import time

from filter.verify.code.cage import Cage, CageError, NoSandboxError
from filter.verify.code.cages import Cages
from filter.verify.code.compare import difference, same_value, short, show
from filter.verify.code.inside.wire import pack
from filter.verify.code.program import last_program, with_prompt
from filter.verify.code.talk import ProgramError, Talk, describe, run_program
from filter.verify.code.tests_of import CallTests, CheckTests, StdinTests, Tests, read_tests
from filter.verify.judgement import Judgement, Verifier
from tracestill.records import Problem

__all__ = ["code"]

_ATTEMPTS = 2


def code(seconds: float = 6.0) -> Verifier:
    """A verifier of programs in Python against the tests in `Problem.reference`, JSON text:

    - `{"inputs": […], "outputs": […]}`: texts that the program reads and prints;
    - the same with `"fn_name"`: arguments and values of that function, or of the method of a
      class `Solution`;
    - `{"test": "…", "entry_point": "…"}`: HumanEval's `check`; the program may also be the body
      that completes `"prompt"`, else the problem's prompt.

    The program is the answer's last code block. Only one that passes all tests is correct; each
    test, or HumanEval's check as a whole, has `seconds` of wall time (LiveCodeBench gives 6).
    Programs run in a sandbox (docs/sandbox.md) that never holds an expected value; where there is
    none, the outcome is `unverifiable`.
    """
    cages = Cages()

    def judge(problem: Problem, answer: str | None) -> Judgement:
        try:
            tests = read_tests(problem.reference, problem.prompt)
        except ValueError as error:
            return Judgement(outcome="unverifiable", detail=str(error))
        source = last_program(answer or "")
        if not source.strip():
            return Judgement(outcome="incorrect", detail="no program found")
        trouble = ""
        for _ in range(_ATTEMPTS):
            try:
                with cages.borrow(2 if isinstance(tests, CheckTests) else 1) as lent:
                    failure = _failure(tests, source, lent, seconds)
            except NoSandboxError as error:
                return Judgement(
                    outcome="unverifiable", extracted=source, detail=f"no sandbox: {error}"
                )
            except CageError as error:
                trouble = str(error)
                continue
            if failure is None:
                return Judgement(outcome="correct", extracted=source, detail="all tests pass")
            return Judgement(outcome="incorrect", extracted=source, detail=failure)
        return Judgement(outcome="error", extracted=source, detail=trouble)

    return judge


def _failure(tests: Tests, source: str, cages: list[Cage], seconds: float) -> str | None:
    """Why the first test fails; None where all pass."""
    match tests:
        case StdinTests():
            return _stdin_failure(tests, source, cages[0], seconds)
        case CallTests():
            return _call_failure(tests, source, cages[0], seconds)
        case CheckTests():
            return _check_failure(tests, source, cages, seconds)


def _stdin_failure(tests: StdinTests, source: str, cage: Cage, seconds: float) -> str | None:
    for number, (text, expected) in enumerate(tests.cases, 1):
        run = run_program(cage, source, text, seconds)
        failure = describe(run.ending, seconds)
        if failure is None:
            try:
                failure = difference(run.output.decode(), expected)
            except UnicodeDecodeError:
                failure = "the output is no UTF-8"
        elif run.ending.code > 0 and run.errors.strip():
            failure = short(run.errors.strip().split("\n")[-1], quote=False)
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
        loaded = talk.receive(end)
        if "raised" in loaded:
            return _raised(loaded["raised"])
        for number, (arguments, expected) in enumerate(tests.cases, 1):
            talk.send({"arguments": pack(arguments)}, end)
            reply = talk.receive(end)
            if "raised" in reply:
                return f"test {number} of {count}: {_raised(reply['raised'])}"
            value = reply.get("value")
            if "value" not in reply or not any(same_value(value, one) for one in expected):
                return f"test {number} of {count}: {show(value)}, expected {short(expected[0])}"
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
    job = {"mode": "calls", "sources": sources, "prelude": False, "name": tests.name}
    program = Talk(cages[0], job, seconds)
    try:
        loaded = program.receive(end)
        if "raised" in loaded:
            return _raised(loaded["raised"])
        job = {
            "mode": "check", "sources": [tests.source], "prelude": False, "name": tests.name,
            "prompt": tests.prompt,
        }  # fmt: skip
        check = Talk(cages[1], job, seconds)
        try:
            while "arguments" in (message := check.receive(end)):
                program.send({"arguments": message["arguments"]}, end)
                check.send(_data(program.receive(end)), end)
        finally:
            check.close()
    except ProgramError as error:
        return str(error)
    finally:
        program.close()
    if message.get("passed") is True:
        return None
    name, text, line = message["failed"]
    return f"{short(f'{name}: {text}', quote=False)} in {short(line or 'the test', quote=False)}"


def _data(reply: dict[str, object]) -> dict[str, object]:
    """Of a program's reply only what the check expects."""
    if "raised" in reply:
        return {"raised": _pair(reply["raised"])}
    if "value" not in reply:
        raise ProgramError("the value is unreadable")
    return {"value": reply["value"]}


def _raised(described: object) -> str:
    name, text = _pair(described)
    return short(f"{name}: {text}", quote=False)


def _pair(described: object) -> list[str]:
    match described:
        case [str(name), str(text)]:
            return [name, text]
    raise ProgramError("the value is unreadable")
