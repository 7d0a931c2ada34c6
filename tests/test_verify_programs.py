"""Which text of an answer is the program, and the shapes in which benchmarks publish tests."""

from __future__ import annotations

import base64
import json
import pickle
import re
import shutil
import time
import zlib
from typing import Any

import pytest

from filter.verify import Answer as ToVerify
from filter.verify import verify_many
from filter.verify.code import code
from filter.verify.code.blocks import code_blocks
from filter.verify.code.cases import read_tests
from filter.verify.code.program import whole_program
from tracestill.records import Problem

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")


def problem(reference: Any, **meta: Any) -> Problem:
    text = json.dumps(reference)
    return Problem(id="p", prompt="Write it.", reference=text, kind="code", source="t", meta=meta)


def blocks(*sources: str) -> str:
    return "\n\nThen:\n\n".join(f"```python\n{source}\n```" for source in sources)


CALLS = {"fn_name": "f", "inputs": [[2], [3]], "outputs": [4, 9]}
STDIN = {"inputs": ["2\n", "3\n"], "outputs": ["4\n", "9\n"]}
CHECK = {"test": "def check(c):\n    assert c(2) == 4\n", "entry_point": "f"}

HEAD = {**CHECK, "prompt": 'def f(x: int) -> int:\n    """ Squares. """\n'}

SQUARE = "def f(x):\n    return x * x"
HELPER = "def square(x):\n    return x * x"
USER = "def f(x):\n    return square(x)"
METHOD = "class Solution:\n    def f(self, x):\n        return x * x"
MAIN = "n = int(input())\nprint(n * n)"
DOCSTRING = 'def g(n):\n    """\n    ```\n    g(2)\n    ```\n    """\n    return n * n\n'

PROGRAMS = [
    # a helper, then the function, or the other way round
    (CALLS, blocks(HELPER, USER), "correct"),
    (CALLS, blocks(USER, HELPER), "correct"),
    (CHECK, blocks(HELPER, USER, "assert f(2) == 5"), "correct"),
    # a demonstration, even one that fails or waits for input
    (CALLS, blocks(SQUARE, "print(f(int(input())))"), "correct"),
    (CALLS, blocks(SQUARE, "assert f(2) == 5"), "correct"),
    (CALLS, blocks(SQUARE + "\nprint(f(int(input())))"), "correct"),
    (CALLS, blocks(SQUARE + "\nraise SystemExit"), "correct"),
    (CALLS, blocks(SQUARE + "\nif __name__ == '__main__':\n    1 / 0"), "correct"),
    (CALLS, blocks(SQUARE, ">>> f(2)\n4"), "correct"),
    (CHECK, blocks(SQUARE, "print(f(2))"), "correct"),
    (CALLS, blocks(METHOD, "assert Solution().f(2) == 4"), "correct"),
    (CHECK, blocks(METHOD), "correct"),
    (CALLS, "raise ValueError\n" + SQUARE, "incorrect"),
    # the last version counts, a broken one too
    (CALLS, blocks("def f(x):\n    return 1", SQUARE), "correct"),
    (CALLS, blocks(SQUARE, "def f(x):\n    return 1"), "incorrect"),
    (CALLS, blocks(SQUARE, "def f(x:\n    return 1"), "incorrect"),
    (STDIN, blocks("print(int(input()) + 1)", MAIN), "correct"),
    (STDIN, blocks(MAIN, "print(int(input()) + 1)"), "incorrect"),
    (STDIN, blocks(MAIN, "print(int(input())"), "incorrect"),
    # programs in several blocks
    (STDIN, blocks("def main():\n    n = int(input())\n    print(n * n)", "main()"), "correct"),
    (STDIN, blocks("n = int(input())", "print(n * n)"), "correct"),
    (STDIN, blocks(HELPER, "print(square(int(input())))"), "correct"),
    (STDIN, blocks("import sys\ninput = sys.stdin.readline", HELPER,
                   "print(square(int(input())))"), "correct"),
    (STDIN, blocks("@str\n" + HELPER, HELPER, "print(square(int(input())))"), "correct"),
    (STDIN, blocks(METHOD, "print(Solution().f(int(input())))"), "correct"),
    (STDIN, blocks(MAIN, "print(5 * 5)"), "correct"),
    (STDIN, blocks(f"{HELPER}\ndef main():\n    print(square(int(input())))\n"
                   "if __name__ == '__main__':\n    main()", "print(square(5))"), "correct"),
    (STDIN, blocks(MAIN) + "\nWith\n```\n2\n```\nit prints 4.", "correct"),
    # fences
    (STDIN, blocks(DOCSTRING + "print(g(int(input())))") + "\nRun it:\n```\n2\n```", "correct"),
    (CALLS, SQUARE + "\n```\nThat is all.", "correct"),
    (CALLS, SQUARE + "\n```\nAn example:\n```\n>>> f(2)\n4\n```", "correct"),
    (CALLS, "So:\n\n" + SQUARE + "\n```\nThat is all.", "correct"),
    (STDIN, "> ```python\n> print(int(input()) ** 2)\n> ```", "correct"),
    (STDIN, "```{.python}\nprint(int(input()) ** 2)\n```", "correct"),
    (CALLS, "```python\ndef f(x): return x * x```", "correct"),
    (CALLS, "So: ```python\ndef f(x): return x * x\n```", "correct"),
    (STDIN, blocks("from functools import cache", "from __future__ import annotations\n@cache\n"
                   + HELPER + "\nprint(square(int(input())))"), "correct"),
    # the body of the prompt's function
    (HEAD, "    y = x\n    return y * y\n\n\ndef g():\n    pass\n\nprint(f(3))", "correct"),
    (HEAD, "    return x * x\n```\nThat's it", "correct"),
    (HEAD, "y = x\n    return y * y\n", "correct"),
    (HEAD, blocks("return x * x"), "correct"),
    (HEAD, blocks("    return x * x", "print(f(3))"), "correct"),
    (HEAD, blocks("return x + x + 1", "print(f(3))"), "incorrect"),
    # prose around bare code
    (CALLS, f"Sure!\n\n{HELPER}\n\nNow use it:\n\n{USER}\n\nIt's quick (and short.\n", "correct"),
    (STDIN, f"It reads a number:\n\n{MAIN}\n\nThis prints its square.", "correct"),
    (STDIN, f"{MAIN}\n\nif this fails, I don't know.", "correct"),
    (CHECK, "    return x * x", "incorrect"),  # the prompt has no head
    # annotations are evaluated, as in a module that does not import from `__future__`
    (STDIN, blocks("x: print(int(input()) ** 2) = 0"), "correct"),
    # single backticks, and code in a sentence
    (STDIN, "The program is `print(int(input()) ** 2)`.", "correct"),
    (STDIN, "Use ``print(int(input()) ** 2)``, where `n ** 2` is the square.", "correct"),
    (STDIN, f"`{MAIN}`", "correct"),
    (STDIN, f"So:\n\n`python\n{MAIN}\n`\n\nHere `n` is read, `x = 5` is not.", "correct"),
    (STDIN, f"It reads `n`, as in `x = 5`:\n\n{MAIN}\n\nand prints it.", "correct"),
    (STDIN, "Answer: print(int(input()) ** 2)", "correct"),
    (STDIN, "**Code:** n = int(input()); print(n * n)", "correct"),
    (CALLS, "Solution: def f(x): return x * x", "correct"),
    (CALLS, "It is `f = lambda x: x * x`, so f(2) is 4.", "correct"),
    (HEAD, "The body is `return x * x`.", "correct"),
    (STDIN, "# `n\nn = int(input())\n# is read`\nprint(n * n)", "correct"),  # all of it is code
    (STDIN, "Note: it can't be done.", "incorrect"),
    (STDIN, "The answer is `n * n`.", "incorrect"),
]  # fmt: skip


@needs_bwrap
def test_the_program_is_found_in_an_answer() -> None:
    judged = verify_many(
        [
            ToVerify(problem=problem(reference), text=answer, trace_id=str(number))
            for number, (reference, answer, _) in enumerate(PROGRAMS)
        ]
    )
    wrong = [
        (PROGRAMS[n][1], verdict.outcome, verdict.detail)
        for n, verdict in enumerate(judged)
        if verdict.outcome != PROGRAMS[n][2]
    ]
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        '```python\n"""\n' + "```\n" * 30_000,
        "```\n" * 30_000,
        "```python\n" * 30_000,
        "x = (\n" * 20_000,
        "f(" * 50_000,
        "-" * 100_000 + "1",
        "a" + ".a" * 50_000,
        "1" + "+1" * 50_000,
        "import a" + ".a" * 20_000,
        "import a" + ".a" * 50_000,
        "print(1)\nAnd so on, it's\n" * 5_000,
        "\x00",
        "\ud800",
    ],
)
def test_no_hostile_answer_takes_long_to_read(text: str) -> None:
    begin = time.monotonic()
    whole_program(code_blocks(text))
    whole_program([text, text])
    assert time.monotonic() - begin < 5


def compressed(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


PUBLIC = [{"input": "2\n", "output": "4\n", "testtype": "stdin"}]
PRIVATE = [{"input": "3\n", "output": "9\n", "testtype": "stdin"}]
ROW = {
    "public_test_cases": json.dumps(PUBLIC),
    "private_test_cases": compressed(json.dumps(PRIVATE)),
}
FUNCTIONAL = [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]
EVALPLUS = {
    "entry_point": "f", "prompt": "def f(x):\n", "canonical_solution": "    return x / 3\n",
    "base_input": [[1]], "plus_input": [[2], [10]], "atol": 0,
}  # fmt: skip
PAIR = {**EVALPLUS, "canonical_solution": "    return (x / 3, x / 7)\n"}


def evalplus(name: str, body: str, argument: Any, atol: float = 0) -> dict[str, Any]:
    solution = f"def {name}(xs):\n    {body}\n"
    return {
        "entry_point": name, "canonical_solution": solution, "plus_input": [[argument]],
        "atol": atol,
    }  # fmt: skip


THIRD = "def f(x):\n    return x * {}"
MBPP = {
    "test_list": ["assert f(2) == 4", "assert set([f(y)]) == {9}"],
    "test_setup_code": "y = 3",
}
ADDING = "def f(a, b):\n    return sum(a) + b"
BITS = {"inputs": ["0101", "101"], "outputs": ["0101 2", "101 2"]}

SHAPES = [
    # LiveCodeBench, as its rows have it
    (PUBLIC, {}, MAIN, "correct"),
    (ROW, {}, MAIN, "correct"),
    (ROW, {}, "print(4)", "incorrect"),
    ({"public_test_cases": json.dumps(FUNCTIONAL), "metadata": '{"func_name": "f"}'},
     {}, ADDING, "correct"),
    (FUNCTIONAL, {"func_name": "f"}, ADDING, "correct"),
    (FUNCTIONAL, {"starter_code": "class Solution:\n    def f(self, a, b):\n"}, ADDING, "correct"),
    (STDIN, {"starter_code": "def main():\n"}, MAIN, "correct"),
    (compressed(json.dumps(PRIVATE)), {}, MAIN, "correct"),
    (compressed(json.dumps(PRIVATE)), {}, "print(4)", "incorrect"),
    ([{**FUNCTIONAL[0], "metadata": {"func_name": "f"}}], {}, ADDING, "correct"),
    # APPS, TACO, code_contests, Codeforces
    ({"input_output": json.dumps(STDIN)}, {}, MAIN, "correct"),
    ({"public_tests": {"input": ["2"], "output": ["4"]},
      "private_tests": {"input": [], "output": []},
      "generated_tests": {"input": ["3"], "output": ["9"]}}, {}, MAIN, "correct"),
    ({"test_cases": [{"type": "stdin_stdout", "input": "2", "output": "4", "fn_name": None}]},
     {}, MAIN, "correct"),
    ({"official_tests": [{"input": "2\n", "output": "4\n"}]}, {}, MAIN, "correct"),
    # MBPP, HumanEval+, MBPP+, LeetCode
    (MBPP, {}, SQUARE, "correct"),
    (MBPP, {}, "def f(x):\n    return 4", "incorrect"),
    (["assert f(2) == 4"], {}, SQUARE, "correct"),
    ({"test": "import math\nassert math.isclose(f(2), 4)"}, {}, SQUARE, "correct"),
    (EVALPLUS, {}, THIRD.format("0.33333333333"), "correct"),
    (EVALPLUS, {}, THIRD.format("0.3333"), "incorrect"),
    ({**EVALPLUS, "atol": 0.01}, {}, THIRD.format("0.3333"), "correct"),
    (EVALPLUS, {}, "def f(x):\n    return [x / 3]", "incorrect"),
    (PAIR, {}, "def f(x):\n    return (x / 3, x / 7 + 1e-9)", "correct"),
    (PAIR, {}, "def f(x):\n    return [x / 3, x / 7 + 1e-9]", "incorrect"),  # no tuple
    (evalplus("find_zero", "return -xs[0] / xs[1]", [1, 2], 1e-4), {},
     "def find_zero(xs):\n    return -xs[0] / xs[1] + 1e-5", "correct"),
    (evalplus("find_zero", "return -xs[0] / xs[1]", [1, 2], 1e-4), {},
     "def find_zero(xs):\n    return 0.5", "incorrect"),
    (evalplus("Diff", "return [*xs, 5]", [1, 2]), {},
     "def Diff(xs):\n    return [5, 2, 1, 1]", "correct"),
    (evalplus("Diff", "return [*xs, 5]", [1, 2]), {},
     "def Diff(xs):\n    return [5, 2]", "incorrect"),
    (evalplus("check_str", "import re; return re.match('a', xs)", "ab"), {},
     "def check_str(xs):\n    return xs[0] == 'a'", "correct"),
    (evalplus("check_str", "import re; return re.match('a', xs)", "ab"), {},
     "def check_str(xs):\n    return False", "incorrect"),
    ({"test": "def check(f):\n    assert f(x=2) == 4", "entry_point": "Solution().f"},
     {}, METHOD, "correct"),
    # a tolerance
    ({"inputs": [""], "outputs": ["x 0.3333\n"]}, {}, "print('x', 1 / 3)", "incorrect"),
    ({"inputs": [""], "outputs": ["x 0.3333\n"]}, {"tolerance": 1e-3}, "print('x', 1 / 3)",
     "correct"),
    ({"inputs": [""], "outputs": ["x 0.3333\n"]}, {"tolerance": 1e-5}, "print('x', 1 / 3)",
     "incorrect"),
    ({"fn_name": "f", "inputs": [[1]], "outputs": [[0.3333, 1]]}, {"tolerance": 1e-3},
     "def f(x): return [x / 3, x]", "correct"),
    ({"fn_name": "f", "inputs": [[1]], "outputs": [[0.3333, 1000]]}, {"tolerance": 1e-2},
     "def f(x): return [x / 3, 1001]", "incorrect"),  # integers stay exact
    # numbers of any length, and what only looks like one
    ({"inputs": [""], "outputs": ["1" + "0" * 5000]}, {}, "print(10**5000)", "correct"),
    ({"inputs": [""], "outputs": ["1" + "0" * 5000]}, {}, "print(10**5000 + 1)", "incorrect"),
    ({"fn_name": "f", "inputs": ["5000"], "outputs": ["1" + "0" * 5000]}, {},
     "def f(n): return 10**n", "correct"),
    ({"fn_name": "f", "inputs": ["4999"], "outputs": ["1" + "0" * 5000]}, {},
     "def f(n): return 10**n", "incorrect"),
    ({"inputs": [""], "outputs": ["0101"]}, {}, "print('101')", "incorrect"),
    ({"inputs": [""], "outputs": ["101"]}, {}, "print('0101')", "incorrect"),
    ({"inputs": [""], "outputs": ["007 2.0"]}, {}, "print('007', 2)", "correct"),
    # one of several outputs says that they are bit strings, in its column
    (BITS, {}, "print(input(), 2)", "correct"),
    (BITS, {}, "x = input()\nprint(x + '.0' if x[0] == '1' else x, 2)", "incorrect"),
    (BITS, {}, "x = input()\nprint(x + 'e0' if x[0] == '1' else x, 2)", "incorrect"),
    (BITS, {}, "print(input(), '', 2.0)", "correct"),
    ({**BITS, "outputs": ["0101 2", "101 2"]}, {"tolerance": 1e-3}, "print(input(), 2.001)",
     "correct"),
    ({**BITS, "outputs": ["0101 2", "101 2"]}, {"tolerance": 0.1},
     "x = input()\nprint('102' if x == '101' else x, 2)", "incorrect"),
    ({"inputs": [""], "outputs": ["0.50 0 -0"]}, {}, "print(.5, 0, 0)", "correct"),
]  # fmt: skip


@needs_bwrap
def test_the_tests_of_benchmarks_are_run() -> None:
    judge = code(5.0)
    for reference, meta, source, outcome in SHAPES:
        grade = judge(problem(reference, **meta), blocks(source))
        assert grade.outcome == outcome, (str(reference)[:200], source, grade.detail)


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("reference", "meta", "message"),
    [
        ({"tests": compressed(_Evil())}, {}, "no pickled text"),
        ({"tests": compressed(["a", "b"])}, {}, "no pickled text"),
        ({"tests": "bm90aGluZw=="}, {}, "neither JSON nor compressed"),
        ({"tests": compressed("[")}, {}, "no JSON"),
        ({"tests": [{"input": "1"}]}, {}, "no `input` and `output`"),
        (FUNCTIONAL, {}, "`func_name`"),
        ([*PUBLIC, *FUNCTIONAL], {"func_name": "f"}, "several"),
        ({**STDIN, "generated_checker": "import sys"}, {}, "`generated_checker` decides"),
        (STDIN, {"checker": "#include"}, "`checker` decides"),
        (STDIN, {"checker": "wcmp"}, "`checker` (wcmp) decides"),
        (STDIN, {"interaction_format": "Ask."}, "`interaction_format` decides"),
        (STDIN, {"tolerance": "x"}, "`tolerance`"),
        ({"plus_input": [[1]]}, {}, "canonical_solution"),
        (evalplus("surface_Area", "return 1", 3), {}, "`surface_Area` by an oracle of its own"),
        ({**EVALPLUS, "task_id": "Mbpp/2"}, {}, "calls Mbpp/2 with tuples"),
        ({"test_list": ["assert True"]}, {}, "entry_point"),
    ],
)  # fmt: skip
def test_what_can_not_be_run_is_refused_with_its_reason(
    reference: Any, meta: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_tests(problem(reference, **meta))
    assert not capsys.readouterr().out  # nothing was unpickled
