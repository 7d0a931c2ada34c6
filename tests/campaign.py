"""Runs that are killed at random moments and resumed, against teachers that keep account.

A teacher here notes when it was asked for a sample and when it answered it, so that what is on disk
after a kill can be compared with what was sent before it.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from aiohttp import web
from scripted import completion, reply
from test_openai_engine import FakeBatches

from generate.job import sample_seed
from tracestill.records import PassRate, Trace, Verdict, check_files, read_manifest, read_table
from tracestill.records import journal as journals

KEY_VARIABLE, KEY = "DURABLE_KEY", "sk-durable-0123456789abcdef"
SECOND = 1.0  # of finished responses a kill may cost no more
RECIPE = """\
name: durable
problems:
  {train}
  heldout: [{{source: reasoning_gym, family: chain_sum, size: 2, seed: 2}}]
generate: {generate}
filter: {{decontaminate: null}}
finetune: {{student: some/student, template: t.jinja, stop: "x"}}
evaluate: {{models: [student_before, student_after]}}
"""


def right(seed: int) -> bool:
    """Whether the sample of this seed is answered rightly: about one in three is."""
    return random.Random(seed).random() < 0.35


def answer_to(question: str, seed: int) -> str:
    """What a teacher says: the sum that is asked for, or one too many."""
    one, other = (int(part) for part in question.removesuffix("?").split()[-1].split("+"))
    return f"<think>\n{seed}\n</think>\n\n\\boxed{{{one + other + (not right(seed))}}}"


def write_problems(folder: Path, count: int) -> None:
    rows = [{"prompt": f"What is {n}+{n % 7}?", "reference": str(n + n % 7)} for n in range(count)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_recipe(folder: Path, generate: dict[str, Any], train: str | None = None) -> Path:
    """A recipe of the problems in this folder, or of none where traces are imported."""
    source = f"[{{source: file, path: {folder}/problems.jsonl}}]"
    train = f"train: {source}" if train is None else train
    (folder / "t.jinja").write_text("{#- a template -#}")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(train=train, generate=json.dumps(generate)))
    return path


@dataclass
class Account:
    """The samples that were requested of a teacher and that it sent, by their seeds."""

    calls: int = 0
    asked: list[int] = field(default_factory=list)
    sent: list[tuple[int, float]] = field(default_factory=list)  # with the monotonic time
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    delays: tuple[float, float] = (0.005, 0.06)

    async def __call__(self, _: web.Request, body: dict[str, Any], __: int) -> web.Response:
        seed = body["seed"]
        self.calls += 1
        self.asked.append(seed)
        await asyncio.sleep(self.draw.uniform(*self.delays))
        said = completion(answer_to(body["messages"][-1]["content"], seed))
        self.sent.append((seed, time.monotonic()))
        return reply(said)


class AccountedBatches(FakeBatches):
    """A batch API that takes its time for every call, as uploads do, and keeps account."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def _results(self, data: bytes) -> bytes:
        rows = []
        for line in data.splitlines():
            row = json.loads(line)
            seed = row["body"]["seed"]
            self._account.asked.append(seed)
            body = completion(answer_to(row["body"]["messages"][-1]["content"], seed))
            response = {"status_code": 200, "body": body}
            rows.append({"custom_id": row["custom_id"], "response": response, "error": None})
        return "\n".join(map(json.dumps, rows)).encode()

    def __call__(self, request: web.Request, data: bytes) -> web.Response:
        self._account.calls += 1
        time.sleep(self._account.draw.uniform(0, 0.2))
        answered = super().__call__(request, data)
        time.sleep(self._account.draw.uniform(0, 0.2))
        return answered


def start(recipe: Path, run: Path, **environment: str) -> subprocess.Popen[bytes]:
    """`tracestill generate` as a user starts it."""
    command = [sys.executable, "-m", "tracestill", "generate", str(recipe), "--out", str(run)]
    with run.with_suffix(".stderr").open("wb") as errors:
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, KEY_VARIABLE: KEY, **environment},
        )


def offspring(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(process: subprocess.Popen[bytes], *, alone: bool = False) -> None:
    """SIGKILL the whole tree, or the first process `alone`, whose children must then end by
    themselves; returns when all are gone.
    """
    children = offspring(process.pid)
    process.send_signal(signal.SIGKILL)
    for child in () if alone else children:
        try:
            child.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
    _, left = psutil.wait_procs(children, timeout=10)
    assert not left, f"still there: {[one.cmdline() for one in left]}"


def rows_of(journal: Path) -> list[dict[str, Any]]:
    return [row for row, _ in journals.read(journal)]


@dataclass
class Campaign:
    """One run, killed again and again. `held` are the ids that a journal once held."""

    recipe: Path
    run: Path
    account: Account | None = None
    environment: dict[str, str] = field(default_factory=dict)
    excused: Counter[int] = field(default_factory=Counter)
    held: set[str] = field(default_factory=set)
    # From a kill to the next start: what the teacher sends then, it sends to nobody.
    dead: list[tuple[float, float]] = field(default_factory=list)
    killed: float = math.inf
    in_the_middle: int = 0  # kills after the teacher was asked and before the stage was complete

    @property
    def journal(self) -> Path:
        return self.run / "generate" / "journal.jsonl"

    def _said(self) -> str:
        return self.run.with_suffix(".stderr").read_text()

    def kill_at(self, wait: Callable[[subprocess.Popen[bytes]], None], *, alone: bool) -> None:
        """Resume, kill when `wait` returns, and compare disk and account."""
        self.dead.append((self.killed, time.monotonic()))
        process = start(self.recipe, self.run, **self.environment)
        try:
            wait(process)
            assert process.poll() in (None, 0), self._said()
            self.held |= {row["id"] for row in rows_of(self.journal)}
        finally:
            at = self.killed = time.monotonic()
            kill(process, alone=alone)
        rows = rows_of(self.journal)
        ids = [row["id"] for row in rows if row["finish"] != "error"]
        assert len(ids) == len(set(ids)), "a sample is in the journal twice"
        assert self.held <= set(ids), "what the journal held before the kill is gone"
        self.held = set(ids)
        complete = read_manifest(self.run / "generate") is not None
        asked = bool(rows) or (self.account is not None and self.account.calls > 0)
        self.in_the_middle += asked and not complete
        if self.account is None:
            return
        there = {sample_seed(0, id_) for id_ in ids}
        old = {
            seed
            for seed, sent in self.account.sent
            if sent < at - SECOND and not any(begin <= sent < end for begin, end in self.dead)
        }
        assert old <= there, f"{len(old - there)} responses older than a second are lost"
        self.excused.update(set(self.account.asked) - there)

    def tear(self) -> None:
        """Leave half a line behind, as a kill in the middle of writing one does."""
        if read_manifest(self.journal.parent) is not None:
            return  # nothing is written to it any more
        for path in self.journal.parent.glob("*journal.jsonl*"):
            with path.open("ab") as file:
                file.write(b'{"id": "half a li')

    def first_call(self, more: float) -> Callable[[subprocess.Popen[bytes]], None]:
        """So many seconds after the teacher is first called."""
        assert self.account is not None
        account, before = self.account, self.account.calls

        def wait(process: subprocess.Popen[bytes]) -> None:
            while process.poll() is None and account.calls == before:
                time.sleep(0.005)
            time.sleep(more)

        return wait

    def finish(self) -> list[dict[str, Any]]:
        """Resume to the end and check everything that is left behind; the journal's rows."""
        process = start(self.recipe, self.run, **self.environment)
        try:
            assert process.wait(240) == 0, self._said()
        finally:
            kill(process)
        rows = rows_of(self.journal)
        good = [row for row in rows if row["finish"] != "error"]
        assert len({row["id"] for row in good}) == len(good)
        assert self.held <= {row["id"] for row in good}
        assert self.journal.read_bytes().endswith(b"\n")
        heads = [head for head, _ in journals.read_heads(self.journal, ("id",))]
        assert heads == [[row["id"]] for row in rows]
        self._check_tables(good)
        if self.account is not None:
            for seed, times in Counter(self.account.asked).items():
                assert times <= 1 + self.excused[seed], "asked again for what was in the journal"
        return rows

    def _check_tables(self, good: Sequence[dict[str, Any]]) -> None:
        folder = self.run / "generate"
        manifest = read_manifest(folder)
        assert manifest is not None
        check_files(folder, manifest)
        traces = list(read_table(folder, "traces", Trace))
        assert sorted(trace.id for trace in traces) == sorted(row["id"] for row in good)
        assert manifest.rows_in == manifest.rows_out == len(traces)
        assert sum(shard.rows for shard in manifest.tables["traces"]) == len(traces)


def check_fixed(rows: Sequence[dict[str, Any]], problems: int, samples: int) -> None:
    counts = Counter(row["problem_id"] for row in rows)
    assert set(counts.values()) == {samples}
    assert len(counts) == problems


def check_until_correct(
    run: Path, rows: Sequence[dict[str, Any]], problems: int, most: int
) -> None:
    """Each problem has its samples up to the first right one, and each sample its verdict."""
    by_problem: dict[str, dict[int, bool]] = {}
    for row in rows:
        by_problem.setdefault(row["problem_id"], {})[row["sample"]] = right(
            sample_seed(0, row["id"])
        )
    assert len(by_problem) == problems
    for found in by_problem.values():
        assert sorted(found) == list(range(len(found)))
        *wrong, last = (found[sample] for sample in range(len(found)))
        assert not any(wrong)
        assert last or len(found) == most
    verdicts = {v.trace_id: v.outcome for v in read_table(run / "generate", "verdicts", Verdict)}
    assert verdicts == {
        row["id"]: "correct" if right(sample_seed(0, row["id"])) else "incorrect" for row in rows
    }
    # Every verdict lies where the response lies that it is of.
    path = run / "generate" / "journal.jsonl"
    with path.open("rb") as file:
        for verdict in rows_of(path.with_name("verdicts.journal.jsonl")):
            file.seek(verdict["offset"])
            assert json.loads(file.readline())["id"] == verdict["trace_id"]
    rates = list(read_table(run / "generate", "pass_rates", PassRate))
    assert sum(rate.samples for rate in rates) == len(rows)
