from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from filter.verify.code import code
from filter.verify.code.blocks import code_blocks
from filter.verify.code.cases import read_tests
from filter.verify.code.program import whole_program
from tracestill.records import Problem

HUMANEVAL = Path(__file__).parents[2] / "shared/data/HumanEval.jsonl.gz"

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")


def problem(reference: Any, prompt: str = "Write a program.", **meta: Any) -> Problem:
    text = reference if isinstance(reference, str) else json.dumps(reference)
    return Problem(id="p", prompt=prompt, reference=text, kind="code", source="test", meta=meta)


def fenced(source: str) -> str:
    return f"Here it is.\n\n```python\n{source}\n```\nDone."


@pytest.fixture(scope="module")
def judge() -> Any:
    return code(5.0)


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("```python\na\n```", "a\n"),
        ("```python\na\n```\nor\n```python\nb\n```", "b\n"),
        ("```python\na\n```\nwhich prints\n```\n3\n```", "a\n"),
        ("```python\na\n```\nwhich prints\n```text\n3\n```", "a\n"),
        ("```\na\n```", "a\n"),
        ("```Python3\na\n```", "a\n"),
        ("~~~py\na\n~~~", "a\n"),
        ("1. so:\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b\n"),
        ("````python\n'''\n```\n'''\n````", "'''\n```\n'''\n"),
        ("```python\na", "a\n"),
        ("```python\r\na\r\n```", "a\n"),
        ("<think>```python\na\n```</think>\n```python\nb\n```", "b\n"),
        ("<think>```python\na\n```</think>\nb", "\nb"),
        ("    return a\n", "    return a\n"),
        ("", ""),
    ],
)
def test_the_last_python_block_is_the_program(answer: str, program: str) -> None:
    assert whole_program(code_blocks(answer)) == program


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ("[" * 100_000, "no JSON"),
        ({}, "neither"),
        ({"inputs": [], "outputs": []}, "no tests"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs but 0 outputs"),
        ({"inputs": [1], "outputs": ["1"]}, "no text"),
        ({"inputs": ["1"], "outputs": ["1"], "fn_name": "a b"}, "fn_name"),
        ({"inputs": ["{"], "outputs": ["1"], "fn_name": "f"}, "no JSON"),
        ({"inputs": [1], "outputs": ["1"], "fn_name": "f"}, "no list"),
        ({"test": " ", "entry_point": "f"}, "no tests"),
        ({"test": "assert print()"}, "entry_point"),
    ],
)
def test_a_reference_without_usable_tests_is_unverifiable(
    judge: Any, reference: Any, message: str
) -> None:
    verdict = judge(problem(reference), fenced("print(1)"))
    assert verdict.outcome == "unverifiable"
    assert message in verdict.detail


STDIN = "import sys\nsys.stdout.write({!r})"


@needs_bwrap
@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("3\n", "3", True),
        ("3  \n\n", "3\n", True),
        (" 3", "3", True),
        ("a b\nc", "a b\nc\n", True),
        ("3.0", "3", True),
        ("1e3 .5", "1000 0.50", True),
        ("1  2", "1 2", True),
        ("0.1000000000000000000000000001", "0.1", False),
        ("nan", "nan", True),
        ("NaN", "nan", False),
        ("1_000", "1000", False),
        ("１", "1", False),
        ("inf", "Infinity", False),
        ("a  b", "a b", False),
        ("YES", "Yes", False),
        ("1", "1\n2", False),
        ("1\n2\n3", "1\n2", False),
        ("", "1", False),
        ("1\n\n2", "1\n2", False),
        ("1 2", "1", False),
        ("1e999999999", "1e999999998", False),
    ],
)
def test_output_is_compared_as_benchmarks_do(
    judge: Any, printed: str, expected: str, same: bool
) -> None:
    verdict = judge(problem({"inputs": [""], "outputs": [expected]}), fenced(STDIN.format(printed)))
    assert verdict.outcome == ("correct" if same else "incorrect"), verdict.detail


@needs_bwrap
@pytest.mark.parametrize(
    ("returned", "expected", "same"),
    [
        ("1", "1", True),
        ("True", "true", True),
        ("1", "true", False),
        ("True", "1", False),
        ("1.0", "1", True),
        ("1", "1.0", True),
        ("0.1 + 0.2", "0.3", False),
        ("0.1 + 0.2", "0.30000000000000004", True),
        ("float('nan')", "NaN", False),
        ("float('inf')", "Infinity", True),
        ("(1, (2, 3))", "[1, [2, 3]]", True),
        ("[1, 2]", "[1, 2, 3]", False),
        ("[1, 2, 3]", "[1, 2]", False),
        ("{1, 2}", "[1, 2]", False),
        ("range(2)", "[0, 1]", False),
        ("{'a': [1]}", '{"a": [1]}', True),
        ("{1: 2}", '{"1": 2}', True),
        ("{'a': 1, 'b': 2}", '{"a": 1}', False),
        ("collections.Counter('aa')", '{"a": 2}', True),
        ("None", "null", True),
        ("None", "0", False),
        ("'1'", "1", False),
        ("'a'", '"a"', True),
        ("'\\ud800'", '"\\ud800"', True),
        ("2**100", str(2**100), True),
        ("2**100 + 1", str(2**100), False),
        ("2**53 + 1.0", str(2**53 + 1), False),
        ("10**5000", "1" + "0" * 4000, False),
        ("b'a'", '"a"', False),
        ("''", "[]", False),
    ],
)
def test_values_are_compared_by_type(judge: Any, returned: str, expected: str, same: bool) -> None:
    tests = {"inputs": ["0"], "outputs": [expected], "fn_name": "f"}
    verdict = judge(problem(tests), fenced(f"def f(x):\n    return {returned}"))
    assert verdict.outcome == ("correct" if same else "incorrect"), verdict.detail


ADD = {"inputs": ["1\n2", "3\n4"], "outputs": ["3", "7"], "fn_name": "add"}
SUM = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
HUMAN = {
    "test": "def check(candidate):\n    assert candidate([1, 2]) == helper(2)\n"
    "    try:\n        candidate(None)\n        assert False\n"
    "    except TypeError:\n        pass\n",
    "entry_point": "total",
}
PROMPT = (
    "from typing import List\n\ndef helper(n):\n    return n + 1\n\n"
    'def total(numbers: List[int]) -> int:\n    """ The sum. """\n'
)
STEPS = {
    "test": "def check(candidate):\n    value = 0\n    for _ in range(12):\n"
    "        value = candidate(value)\n    assert value == 12\n",
    "entry_point": "f",
}
DRAWN = {
    "test": "import random\ndef check(f):\n    for _ in range(100):\n"
    "        x = random.randint(0, 10**9)\n        assert f(x) == x + 1, f(x)\n",
    "entry_point": "f",
}


@needs_bwrap
@pytest.mark.parametrize(
    ("reference", "source", "outcome", "detail"),
    [
        (ADD, "def add(a, b):\n    return a + b", "correct", "all tests pass"),
        (ADD, "class Solution:\n    def add(self, a: int, b: int) -> int:\n        return a + b",
         "correct", "all tests pass"),
        (ADD, "def add(a, b):\n    return 3", "incorrect", "test 2 of 2: 3, expected 7"),
        (ADD, "def plus(a, b):\n    return a + b", "incorrect", "NameError"),
        (ADD, "def add(a, b):\n    return a / 0", "incorrect", "test 1 of 2: ZeroDivisionError"),
        (ADD, "def add(a, b:", "incorrect", "SyntaxError"),
        (ADD, "def add(a, b):\n    print('noise')\n    return a + b", "correct", ""),
        ({"inputs": [[[1, 2]]], "outputs": [[3]], "fn_name": "f"}, "f = sum", "correct", ""),
        ({"inputs": [["a"]], "outputs": ["a"], "fn_name": "f"}, "f = str", "correct", ""),
        (ADD, "def add(a: List[int], b: Optional[int]):\n    return sum([a, b])", "correct", ""),
        (SUM, "print(sum(map(int, input().split())))", "correct", "all tests pass"),
        (SUM, "import sys\nfor line in sys.stdin:\n    print(eval(line.replace(' ', '+')))",
         "correct", ""),
        (SUM, "import os\nprint(sum(map(int, os.read(0, os.fstat(0).st_size).split())))",
         "correct", ""),
        (SUM, "print(sum(map(int, open(0).read().split())))", "correct", ""),
        (SUM, "import atexit\natexit.register(lambda: print(eval(input().replace(' ', '+'))))",
         "correct", ""),
        (SUM, "if __name__ == '__main__':\n    print(eval(input().replace(' ', '+')))\n    exit()",
         "correct", ""),
        (SUM, "print(3)", "incorrect", "test 2 of 2: line 1 is '3', expected '7'"),
        (SUM, "print(3)\nraise ValueError('no')", "incorrect", "ValueError: no"),
        (SUM, "import os\nprint(3, flush=True)\nos._exit(3)", "incorrect", "ended with code 3"),
        (SUM, "import numpy as np\nprint(int(np.sum([int(x) for x in input().split()])))",
         "correct", ""),
        ({"inputs": [["1", "2"]], "outputs": [["1", "2"]]}, "print(input())\nprint(input())",
         "correct", ""),
        (HUMAN, PROMPT + "    return sum(numbers)", "correct", "all tests pass"),
        (HUMAN, "    return sum(numbers)", "correct", "all tests pass"),
        (HUMAN, "return sum(numbers)", "correct", "all tests pass"),
        (HUMAN, "def total(numbers: List[int]):\n    return helper(sum(numbers)) - 1",
         "correct", ""),
        (HUMAN, "total = sum", "correct", ""),
        (HUMAN, PROMPT + "    pass", "incorrect", "AssertionError"),
        (HUMAN, "def helper(n):\n    return None\ndef total(numbers):\n    return None",
         "incorrect", "AssertionError"),
        (HUMAN, "def total(numbers):\n    return sum(numbers or [])", "incorrect", "assert False"),
        ({"test": "assert f(2) == 4\nassert f(3) == 9", "entry_point": "f"},
         "def f(n):\n    return n * n", "correct", ""),
        ({"test": "assert f(2) == 4\nassert f(3) == 9", "entry_point": "f"},
         "def f(n):\n    return 4", "incorrect", "assert f(3) == 9"),
        (HUMAN, "import os\ndef total(numbers):\n    os._exit(0)", "incorrect",
         "without an answer"),
        (HUMAN, "raise ValueError('no')\ndef total(numbers): pass", "incorrect",
         "ValueError: no"),
        (STEPS, "def f(n):\n    return n + 1", "correct", ""),
        (STEPS, "def f(n):\n    return n + (n < 11)", "incorrect", "assert value == 12"),
        (DRAWN, "def f(n):\n    return n + 1", "correct", ""),
        (DRAWN, "def f(n):\n    return n + (n % 17 > 0)", "incorrect", "AssertionError"),
    ],
)  # fmt: skip
def test_programs_are_judged(
    judge: Any, reference: Any, source: str, outcome: str, detail: str
) -> None:
    verdict = judge(problem(reference, PROMPT), fenced(source))
    assert (verdict.outcome, detail in verdict.detail) == (outcome, True), verdict.detail
    assert verdict.extracted == source + "\n"


@needs_bwrap
def test_a_check_as_a_whole_has_its_time() -> None:
    endless = fenced("def total(numbers):\n    while True: pass")
    verdict = code(0.5)(problem(HUMAN, PROMPT), endless)
    assert (verdict.outcome, "timed out" in verdict.detail) == ("incorrect", True)


@needs_bwrap
def test_each_call_has_its_time_and_its_room() -> None:
    """They go to one process, and those that it had no time or no room for to another."""
    numbers = {"inputs": [[0], [1], [2]], "outputs": [0, 1, 2], "fn_name": "f"}
    slow = fenced("def f(x):\n    time.sleep(0.5)\n    return x")
    assert code(1.2)(problem(numbers), slow).outcome == "correct"
    hangs = fenced("def f(x):\n    time.sleep(99 * (x == 1))\n    return x")
    assert "test 2 of 3: timed out" in code(1.0)(problem(numbers), hangs).detail
    large = {**numbers, "outputs": ["x" * 7_000_000 + str(n) for n in range(3)]}
    judge = code(5.0)
    long = fenced("def f(x):\n    return 'x' * 7_000_000 + str(x)")
    assert judge(problem(large), long).outcome == "correct"
    longer = fenced("def f(x):\n    return 'x' * (7_000_000 if x < 1 else 20_000_000) + str(x)")
    detail = judge(problem(large), longer).detail
    assert "test 2 of 3: the value is too large" in detail, detail


@needs_bwrap
@pytest.mark.parametrize("answer", [None, "", "</think>", "I can't do that.", "```python\n```"])
def test_an_answer_without_a_program_is_incorrect(judge: Any, answer: str | None) -> None:
    assert judge(problem(SUM), answer).outcome == "incorrect"


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = code()(problem(SUM), fenced("print(3)"))
    assert verdict.outcome == "unverifiable"
    assert verdict.detail.startswith("no sandbox: ")
    assert "apt-get install bubblewrap" in verdict.detail


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n",
        "#!/bin/sh\nexit 0\n",
        # It starts what it should confine, without confining it.
        '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n',
    ],
)
def test_a_sandbox_that_does_not_confine_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(script)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    verdict = code()(problem(SUM), fenced("print(3)"))
    assert verdict.outcome == "unverifiable"
    assert verdict.detail.startswith("no sandbox: bwrap did not start")


@needs_bwrap
def test_a_sandbox_that_dies_is_replaced(judge: Any) -> None:
    def sandboxes() -> list[psutil.Process]:
        return [p for p in psutil.Process().children() if p.name() == "bwrap"]

    assert judge(problem(ADD), fenced("add = int.__add__")).outcome == "correct"
    for process in sandboxes():
        process.kill()
    verdict = judge(problem(ADD), fenced("add = int.__add__"))
    assert verdict.outcome == "correct", verdict.detail


@needs_bwrap
def test_verdicts_come_from_threads_and_async_code(judge: Any) -> None:
    outcomes: list[str] = []

    def work(number: int) -> None:
        tests = {"inputs": [str(number)], "outputs": [str(number)], "fn_name": "f"}
        outcomes.append(judge(problem(tests), fenced("def f(x):\n    return x")).outcome)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def gather() -> None:
        await asyncio.gather(*(asyncio.to_thread(work, n) for n in range(4)))

    asyncio.run(gather())
    assert outcomes == ["correct"] * 10


@needs_bwrap
def test_a_forked_process_judges_too(judge: Any) -> None:
    assert judge(problem(ADD), fenced("add = int.__add__")).outcome == "correct"
    child = os.fork()
    if child == 0:
        verdict = judge(problem(ADD), fenced("add = int.__add__"))
        os._exit(0 if verdict.outcome == "correct" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert judge(problem(ADD), fenced("add = int.__add__")).outcome == "correct"


@needs_bwrap
@pytest.mark.skipif(not HUMANEVAL.exists(), reason="needs ../shared/data/HumanEval.jsonl.gz")
def test_humanevals_own_solutions_are_correct(judge: Any) -> None:
    with gzip.open(HUMANEVAL) as file:
        rows = [json.loads(line) for line in file][::8]
    for row in rows:
        tests = {"test": row["test"], "entry_point": row["entry_point"]}
        own = judge(problem(tests, row["prompt"]), row["canonical_solution"])
        assert own.outcome == "correct", (row["task_id"], own.detail)
        empty = judge(problem(tests, row["prompt"]), fenced(row["prompt"] + "    pass"))
        assert empty.outcome == "incorrect", row["task_id"]


def test_livecodebenchs_shape_is_read() -> None:
    tests = read_tests(problem(ADD))
    assert tests.cases == (([1, 2], (3,)), ([3, 4], (7,)))
