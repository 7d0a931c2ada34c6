"""`kill -9` at any moment, whoever the teacher is, and what else a long run meets."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web
from campaign import (
    KEY_VARIABLE,
    Account,
    AccountedBatches,
    Campaign,
    answer_to,
    check_fixed,
    check_until_correct,
    kill,
    offspring,
    rows_of,
    start,
    write_problems,
    write_recipe,
)
from conftest import ROOT, run_tracestill
from scripted import Scripted, completion, reply, scripted
from test_served import NAME, teacher

from generate.job import sample_seed
from tracestill.records import Trace, read_manifest, read_table

UNTIL = {"min": 1, "max": 4, "until_correct": 1}
SERVED = {"engine": "openai", "model": "m", "concurrency": 8, "max_tokens": 64}
TEACHERS: dict[str, dict[str, Any]] = {
    "server": {},
    "hosted": {"api_key_env": KEY_VARIABLE},
    "batch": {"api_key_env": KEY_VARIABLE, "batch": True},
}
LOCAL = {
    "model": f"{ROOT}/miniature/teacher", "max_tokens": 60, "max_model_len": 256,
    "temperature": 1.0, "top_p": 1.0,
}  # fmt: skip
PROBLEMS = 200

# Thirty kills in the slow part, with those of imports (2), of vLLM in its process (6) and of a run
# at its server (2); some in the quick one. Teacher, samples, kills, seed.
QUICK = [("server", UNTIL, 2, 0)]
SLOW = [
    ("batch", 2, 1, 2),
    ("server", 2, 4, 3), ("server", UNTIL, 4, 4), ("hosted", UNTIL, 3, 5), ("hosted", 2, 3, 6),
    ("batch", UNTIL, 3, 7), ("batch", 2, 3, 8),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "samples", "kills", "seed"),
    [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)],
)
def test_kills_at_random_moments_lose_nothing_and_pay_nothing_twice(
    tmp_path: Path, name: str, samples: Any, kills: int, seed: int
) -> None:
    draw = random.Random(seed)
    account = Account(draw=random.Random(seed))
    write_problems(tmp_path, PROBLEMS)
    with scripted(account if name != "batch" else lambda *_: reply({}, 500)) as server:
        server.other = AccountedBatches(account)
        section = {**SERVED, **TEACHERS[name], "base_urls": [server.url], "samples": samples}
        campaign = Campaign(write_recipe(tmp_path, section), tmp_path / "run", account)
        for number in range(kills):
            moment = draw.uniform(0.0, (0.8 if name == "batch" else 2.4) / kills)
            campaign.kill_at(campaign.first_call(moment), alone=number % 2 == 1)
            campaign.tear()
        rows = campaign.finish()
    if isinstance(samples, int):
        check_fixed(rows, PROBLEMS, samples)
    else:
        check_until_correct(tmp_path / "run", rows, PROBLEMS, UNTIL["max"])
    assert campaign.in_the_middle
    if name == "batch":  # what was sent is paid, killed or not: nothing is sent twice
        assert len(account.asked) == len(set(account.asked)) == len(rows)


@pytest.mark.parametrize(
    ("rows", "kills"), [(2_000, 1), pytest.param(12_000, 2, marks=pytest.mark.slow)]
)
def test_an_import_that_is_killed_begins_anew_and_is_whole(
    tmp_path: Path, rows: int, kills: int
) -> None:
    data = tmp_path / "traces.jsonl"
    with data.open("w") as file:
        for n in range(rows):
            response = f"<think>\n{'so ' * 400}\n</think>\n\n\\boxed{{{n + 1}}}"
            row = {"prompt": f"What is {n}+1?", "response": response, "reference": str(n + 1)}
            file.write(json.dumps(row) + "\n")
    section = {"engine": "import", "layout": "table", "path": str(data)}
    recipe, run = write_recipe(tmp_path, section, train="train: []"), tmp_path / "run"
    draw = random.Random(rows)
    for number in range(kills):
        process = start(recipe, run)
        folder = run / ("problems" if number % 2 else "generate")
        while process.poll() is None and not list(folder.glob(".*.tmp")):
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 0.3))
        kill(process, alone=number % 2 == 1)
    assert start(recipe, run).wait(120) == 0
    manifest = read_manifest(run / "generate")
    assert manifest is not None
    assert manifest.rows_out == rows
    traces = list(read_table(run / "generate", "traces", Trace))
    assert len({trace.id for trace in traces}) == len(traces) == rows
    assert not list(run.rglob(".*.tmp"))


def grown(journal: Path, more: float) -> Callable[[subprocess.Popen[bytes]], None]:
    """So many seconds after a journal has grown."""
    before = journal.stat().st_size if journal.exists() else 0

    def wait(process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None and not (journal.exists() and journal.stat().st_size > before):
            time.sleep(0.01)
        time.sleep(more)

    return wait


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "processes"), [(8, "0"), ({**UNTIL, "max": 8}, "0"), (8, "1")])
def test_kills_of_a_teacher_in_this_process(tmp_path: Path, samples: Any, processes: str) -> None:
    """Also where vLLM's core has a process of its own, as on GPUs."""
    write_problems(tmp_path, 150)
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": processes}
    recipe = write_recipe(tmp_path, {**LOCAL, "samples": samples})
    campaign = Campaign(recipe, tmp_path / "run", environment=environment)
    draw = random.Random(processes)
    for number in range(2):
        wait = grown(campaign.journal, draw.uniform(0.0, 1.0))
        campaign.kill_at(wait, alone=number % 2 == 1)
    rows = campaign.finish()
    assert campaign.in_the_middle
    if isinstance(samples, int):
        check_fixed(rows, 150, samples)


@pytest.mark.slow
def test_kills_with_the_real_server(tmp_path: Path) -> None:
    # The problems are none that the miniature has learnt, so its answers are of no use: no canary.
    write_problems(tmp_path, 300)
    with teacher() as (url, _):
        section = {
            **SERVED, "model": NAME, "base_urls": [url], "samples": 3, "max_tokens": 200,
            "canary": False,
        }  # fmt: skip
        campaign = Campaign(write_recipe(tmp_path, section), tmp_path / "run")
        for number in range(2):
            campaign.kill_at(grown(campaign.journal, 0.3 + number), alone=False)
        check_fixed(campaign.finish(), 300, 3)
    assert campaign.in_the_middle


@pytest.mark.slow
def test_an_engine_whose_core_is_killed_is_opened_again(tmp_path: Path) -> None:
    write_problems(tmp_path, 300)  # of no use either
    recipe, run = write_recipe(tmp_path, {**LOCAL, "samples": 8, "canary": False}), tmp_path / "run"
    journal = run / "generate" / "journal.jsonl"
    process = start(recipe, run, VLLM_ENABLE_V1_MULTIPROCESSING="1")
    try:
        grown(journal, 0.5)(process)
        known = {row["id"] for row in rows_of(journal)}
        assert process.poll() is None
        cores = [one for one in offspring(process.pid) if "EngineCore" in " ".join(one.cmdline())]
        assert len(cores) == 1, [one.cmdline() for one in offspring(process.pid)]
        cores[0].send_signal(signal.SIGKILL)
        assert process.wait(300) == 0, run.with_suffix(".stderr").read_text()
    finally:
        kill(process)
    rows = rows_of(journal)
    assert 0 < len(known) < len(rows), "it was over before the core was killed"
    check_fixed(rows, 300, 8)
    assert known <= {row["id"] for row in rows}


class Trials:
    """A server that tries what servers do in turn, and is gone for a while in the middle."""

    def __init__(self, away: float) -> None:
        self.account = Account(delays=(0.001, 0.02))
        self.answered: Counter[int] = Counter()
        self.server: Scripted
        self._away = away
        self._number = 0
        self.outage: threading.Thread | None = None

    def _leave(self) -> None:
        self.server.stop()
        time.sleep(self._away)
        self.server.start()

    async def __call__(
        self, request: web.Request, body: dict[str, Any], before: int
    ) -> web.Response:
        question, seed = body["messages"][-1]["content"], body["seed"]
        if "too long" in question:
            message = "This model's maximum context length is 64 tokens."
            return reply({"error": {"message": message, "code": 400}}, 400)
        self._number += 1
        if self._number == 60:
            self.outage = threading.Thread(target=self._leave)
            self.outage.start()
        if 90 <= self._number < 100:
            return reply({"error": {"message": "slow down"}}, 429, **{"Retry-After": "0.2"})
        if before == 0:
            match seed % 16:
                case 0:
                    return reply(b"<html>502 Bad Gateway</html>")
                case 1:
                    return reply(json.dumps(completion("4")).encode()[:-30])
                case 2:
                    return reply({"error": {"message": "the worker died", "code": 500}})
                case 3:
                    return reply({"error": {"message": "busy"}}, 503)
        answered = await self.account(request, body, before)
        self.answered[seed] += 1
        if seed % 16 == 4:
            bare = completion(answer_to(question, seed))
            del bare["usage"]
            return reply(bare)
        return answered


@pytest.mark.parametrize("away", [3.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_a_run_against_a_server_that_does_all_that_servers_do(tmp_path: Path, away: float) -> None:
    count = 100
    write_problems(tmp_path, count)
    with (tmp_path / "problems.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "This is too long. What is 1+1?", "reference": "2"}))
    trials = Trials(away)
    with scripted(trials) as server:
        trials.server = server
        section = {**SERVED, "base_urls": [server.url], "samples": 1}
        recipe = write_recipe(tmp_path, section)
        done = run_tracestill("generate", recipe, "--out", tmp_path / "run")
        assert trials.outage is not None
        trials.outage.join()
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "run" / "generate" / "journal.jsonl")
    assert Counter(row["finish"] for row in rows) == {"stop": count, "skipped": 1}
    assert len({row["id"] for row in rows}) == count + 1
    traces = {t.id: t for t in read_table(tmp_path / "run" / "generate", "traces", Trace)}
    assert traces.keys() == {row["id"] for row in rows}
    (skipped,) = [trace for trace in traces.values() if trace.finish == "skipped"]
    assert "maximum context length" in str(skipped.error)
    for trace in traces.values():
        if trace is not skipped:
            seed = sample_seed(0, trace.id)
            assert trace.reasoning == str(seed)
            assert trace.completion_tokens > 0
    # An answer that was on its way when the server went is all that may be paid twice.
    assert sum(trials.answered.values()) <= count + SERVED["concurrency"]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("samples", [pytest.param(2, marks=pytest.mark.slow), UNTIL])
def test_a_full_disk_ends_a_served_run_with_one_line_and_space_lets_it_go_on(
    tmp_path: Path, samples: Any
) -> None:
    account = Account(delays=(0.0, 0.01))
    write_problems(tmp_path, PROBLEMS)
    with scripted(account) as server, small_disk(tmp_path / "disk", "150k") as disk:
        section = {**SERVED, "base_urls": [server.url], "samples": samples}
        recipe, run = write_recipe(tmp_path, section), disk / "run"
        done = run_tracestill("generate", recipe, "--out", run)
        assert done.returncode == 1
        said, log = done.stderr.splitlines()
        assert "no disk space is left" in said
        assert log.startswith("  log: ")
        campaign = Campaign(recipe, run, account)
        campaign.held = {row["id"] for row in rows_of(campaign.journal)}
        there = {sample_seed(0, id_) for id_ in campaign.held}
        assert there
        campaign.excused.update(set(account.asked) - there)
        assert len(set(account.asked) - there) <= 2 * SERVED["concurrency"]
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        rows = campaign.finish()
        if isinstance(samples, int):
            check_fixed(rows, PROBLEMS, samples)
        else:
            check_until_correct(run, rows, PROBLEMS, UNTIL["max"])


def test_ctrl_c_while_a_server_answers_and_answers_are_judged(tmp_path: Path) -> None:
    account = Account(delays=(0.01, 0.06))
    write_problems(tmp_path, PROBLEMS)
    with scripted(account) as server:
        section = {**SERVED, "base_urls": [server.url], "samples": UNTIL}
        campaign = Campaign(write_recipe(tmp_path, section), tmp_path / "run", account)
        process = start(campaign.recipe, campaign.run)
        campaign.first_call(1.0)(process)
        children = offspring(process.pid)
        at = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        _, left = psutil.wait_procs(children, timeout=10)
        assert not left
        said = campaign.run.with_suffix(".stderr").read_text()
        assert "stopped during generate; what was finished is kept" in said
        assert len(said.splitlines()) == 1
        there = {sample_seed(0, row["id"]) for row in rows_of(campaign.journal)}
        assert {seed for seed, sent in account.sent if sent < at - 0.5} <= there
        campaign.excused.update(set(account.asked) - there)
        rows = campaign.finish()
    check_until_correct(campaign.run, rows, PROBLEMS, UNTIL["max"])
