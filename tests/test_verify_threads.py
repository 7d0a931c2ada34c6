"""`verify` from wherever users call it: threads, async code, notebooks, forked processes, exits."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from filter.verify import verify, verify_many
from tracestill.records import Kind, Problem


def problem(kind: Kind, reference: str, prompt: str = "?", **meta: Any) -> Problem:
    return Problem(id="p", prompt=prompt, reference=reference, kind=kind, source="test", meta=meta)


CHOICES = "Which?\nA. one\nB. two"
ENTRY = {"question": "?", "answer": "4", "metadata": {}}
GYM = {"family": "chain_sum", "config": {}, "entry": ENTRY}
TESTS = json.dumps({"inputs": ["1\n"], "outputs": ["2\n"]})
PROGRAM = "```python\nprint(int(input()) + 1)\n```"
# Of each kind one right and one wrong answer; `\sin` is for math-verify, in its process.
MIXED = [
    (problem("math", "4"), r"\boxed{4}", "correct"),
    (problem("math", "4"), r"\boxed{5}", "incorrect"),
    (problem("math", r"\sin(x)^2"), r"\boxed{1-\cos(x)^2}", "correct"),
    (problem("math", r"\sin(x)^2"), r"\boxed{\cos(x)^2}", "incorrect"),
    (problem("choice", "B", CHOICES), "The answer is (B).", "correct"),
    (problem("choice", "B", CHOICES), "The answer is (A).", "incorrect"),
    (problem("reasoning_gym", "4", **GYM), r"\boxed{4}", "correct"),
    (problem("reasoning_gym", "4", **GYM), r"\boxed{5}", "incorrect"),
    (problem("open", ""), "Anything.", "unverifiable"),
]
INTEGRAL = {"question": "?", "answer": "x", "metadata": {"variable": "x", "integrand": "1"}}
HANGS = problem(
    "reasoning_gym", "x", family="simple_integration", config={}, entry=INTEGRAL
)  # its scorer computes without end on a tower of powers
OUTCOMES = [row[2] for row in MIXED]


def outcomes() -> list[str]:
    return [verify(problem, answer, "t").outcome for problem, answer, _ in MIXED]


@pytest.fixture
def program() -> tuple[Problem, str]:
    """A program's outcome is that of this machine: `unverifiable` where it has no sandbox."""
    asked = problem("code", TESTS)
    return asked, verify(asked, PROGRAM, "t").outcome


def test_eight_threads_judge_all_kinds_at_once(program: tuple[Problem, str]) -> None:
    asked, outcome = program
    barrier = threading.Barrier(8)

    def judge(_: int) -> list[list[str]]:
        barrier.wait()
        return [[*outcomes(), verify(asked, PROGRAM, "t").outcome] for _ in range(3)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(judge, range(8)))
    assert found == [[[*OUTCOMES, outcome]] * 3] * 8


def test_async_code_judges_in_its_loop_and_beside_it() -> None:
    async def judge() -> list[list[str]]:
        beside = [asyncio.to_thread(outcomes) for _ in range(4)]
        direct = outcomes()
        return [direct, *await asyncio.gather(*beside)]

    assert asyncio.run(judge()) == [OUTCOMES] * 5


def test_a_notebook_judges() -> None:
    nbclient = pytest.importorskip("nbclient", reason="the notebooks' extra is not installed")
    nbformat = pytest.importorskip("nbformat", reason="the notebooks' extra is not installed")
    cells = [
        "import asyncio, sys\n"
        f"sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parent.parent)!r}]\n"
        "from test_verify_threads import outcomes",
        "print(*outcomes())",
        "print(*await asyncio.to_thread(outcomes))",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, kernel_name="python3", timeout=120).execute()
    for cell in book.cells[1:]:
        (output,) = cell["outputs"]
        assert output["text"].split() == OUTCOMES


def _tell(pipe: Any) -> None:
    pipe.send(outcomes())


def test_a_forked_process_judges_with_processes_of_its_own() -> None:
    assert outcomes() == OUTCOMES
    forking = multiprocessing.get_context("fork")
    ours, theirs = forking.Pipe()
    child = forking.Process(target=_tell, args=(theirs,))
    child.start()
    assert outcomes() == OUTCOMES  # both at once
    assert ours.poll(60)
    assert ours.recv() == OUTCOMES
    child.join(10)
    assert child.exitcode == 0
    assert outcomes() == OUTCOMES


ENDS = {
    "returns": "judge()",
    "raises SystemExit": "judge(); sys.exit(0)",
    "ends while threads judge": """
        judge()
        for _ in range(4):
            threading.Thread(target=judge, daemon=True).start()
        time.sleep(0.05)
        """,
    "ends in async code": "asyncio.run(asyncio.to_thread(judge))",
    "ends after a row that timed out": "hang(0.5)",
    # A lock that the thread holds is held for good in the child, which has not the thread.
    "forks while a thread judges": """
        thread = threading.Thread(target=hang, args=(5.0,))
        thread.start()
        time.sleep(1.0)
        child = os.fork()
        if not child:
            judge()
            sys.exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        thread.join()
        """,
}
SCRIPT = """\
import asyncio, os, sys, threading, time
from filter.verify.gym import reasoning_gym
from test_verify_threads import HANGS, MIXED, outcomes

def judge():
    assert outcomes() == [row[2] for row in MIXED]

def hang(seconds):
    detail = reasoning_gym(seconds)(HANGS, r"\\boxed{9**9**9**9}").detail
    assert detail == f"timed out after {seconds:g} s", detail

judge()
print("judged", flush=True)
"""


def started(mark: str, code: str) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": f"{here}:{here.parent}", "TRACESTILL_TEST": mark},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def left(mark: str) -> Iterator[str]:
    """The processes that come from one that was started with this mark."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                yield (path / "cmdline").read_text().replace("\0", " ")
        except OSError:  # gone meanwhile, or another user's
            continue


def soon_gone(mark: str, seconds: float) -> list[str]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not list(left(mark)):
            return []
        time.sleep(0.05)
    return list(left(mark))


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_an_interpreter_ends_without_a_word_and_leaves_no_process(code: str) -> None:
    mark = uuid.uuid4().hex
    process = started(mark, code)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output, errors) == (0, "judged\n", "")
    assert soon_gone(mark, 2.0) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interpreter_that_is_killed_leaves_no_process(how: signal.Signals) -> None:
    mark = uuid.uuid4().hex
    process = started(mark, "time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "judged\n"
    assert len(list(left(mark))) > 1  # or this test would find nothing to leave
    process.send_signal(how)
    process.communicate(timeout=60)
    assert soon_gone(mark, 5.0) == []


def test_many_rows_from_many_threads_stay_in_order() -> None:
    from filter.verify import Answer

    rows = [
        Answer(problem=asked, text=text, trace_id=str(number))
        for number, (asked, text, _) in enumerate(MIXED * 5)
    ]
    with ThreadPoolExecutor(4) as threads:
        for verdicts in threads.map(lambda _: verify_many(rows), range(4)):
            assert [verdict.outcome for verdict in verdicts] == OUTCOMES * 5
            assert [verdict.trace_id for verdict in verdicts] == [row.trace_id for row in rows]
