"""Judge programs by running their problem's tests in a sandbox."""

from __future__ import annotations

from filter.verify.code.blocks import code_blocks
from filter.verify.code.bubblewrap import NoSandboxError, SandboxError
from filter.verify.code.cases import StdinTests, read_tests
from filter.verify.code.local import local
from filter.verify.code.program import whole_program
from filter.verify.code.remote import remote
from filter.verify.code.service import UnjudgedError
from filter.verify.grading import Grade, Grader
from tracestill.recipe.sandbox import BUBBLEWRAP, Sandbox
from tracestill.records import Problem

__all__ = ["code"]

_ATTEMPTS = 2


def code(seconds: float = 6.0, sandbox: Sandbox = BUBBLEWRAP) -> Grader:
    """A grader of programs in Python against the tests in `Problem.reference`, JSON text in one of
    the shapes of docs/verify.md, which also says how the program is found and compared.

    Only one that passes all tests is correct; each test, or a test that is code as a whole, has
    `seconds` of wall time (LiveCodeBench gives 6). Programs run in the sandbox (docs/sandbox.md),
    in one that never holds an expected value; where it is missing or fails, the outcome is
    `unverifiable`.
    """
    find = local(seconds) if sandbox == BUBBLEWRAP else remote(sandbox, seconds)

    def grade(problem: Problem, answer: str | None) -> Grade:
        try:
            tests = read_tests(problem)
        except ValueError as error:
            return Grade(outcome="unverifiable", detail=str(error))
        blocks = code_blocks(answer or "")
        source = whole_program(blocks) if isinstance(tests, StdinTests) else "\n".join(blocks)
        if not source.strip():
            return Grade(outcome="incorrect", detail="no program found")
        trouble = ""
        for _ in range(_ATTEMPTS):
            try:
                failure = find(tests, blocks)
            except (NoSandboxError, UnjudgedError) as error:
                none = "no sandbox: " if isinstance(error, NoSandboxError) else ""
                return Grade(outcome="unverifiable", extracted=source, detail=f"{none}{error}")
            except SandboxError as error:
                trouble = str(error)
                continue
            if failure is None:
                return Grade(outcome="correct", extracted=source, detail="all tests pass")
            return Grade(outcome="incorrect", extracted=source, detail=failure)
        return Grade(outcome="error", extracted=source, detail=trouble)

    return grade
