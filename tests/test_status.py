"""How far a run is: `tracestill status`, also while it goes on."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import run_tracestill
from kept_run import make_run, row

from generate.ledger import INDEXED
from tracestill.records import Journal
from tracestill.run.lock import held, locked
from tracestill.run.states import RunStates


def states(run: Path) -> dict[str, str]:
    return {one.stage: one.state for one in RunStates(run).look()}


def response(number: int, **changed: object) -> dict[str, object]:
    return {"id": str(number), "finish": "stop", "spent": 100, "paid": 0.25, **changed}


def test_the_first_stage_that_is_not_complete_runs_while_a_process_holds_the_run(
    tmp_path: Path,
) -> None:
    _, run = make_run(tmp_path, [row(n) for n in range(4)])
    unbegun = {"finetune": "not begun", "evaluate": "not begun", "report": "not begun"}
    made = {"problems": "complete", "generate": "complete", "filter": "complete"}
    assert states(run) == made | unbegun
    with locked(run):
        assert held(run)
        assert states(run) == made | unbegun | {"finetune": "running"}
    assert not held(run)
    said = run_tracestill("status", run, COLUMNS="80").stdout
    assert [line.split()[:2] for line in said.splitlines()[1:4]] == [
        ["problems", "complete"], ["generate", "complete"], ["filter", "complete"],
    ]  # fmt: skip


def test_what_a_journal_gains_is_counted_from_where_it_was_read(tmp_path: Path) -> None:
    _, run = make_run(tmp_path, [row(n) for n in range(2)])
    (run / "generate" / "manifest.json").unlink()
    path = run / "generate" / "journal.jsonl"
    looking = RunStates(run)
    with Journal(path, INDEXED) as journal:
        for number in range(3):
            journal.append(response(number))
        seen = {one.stage: one for one in looking.look()}["generate"]
        assert (seen.responses, seen.failed, seen.tokens, seen.cost) == (3, 0, 300, 0.75)
        journal.append(response(3, finish="error", spent=7, paid=0.0))
        with path.open("ab") as torn:
            torn.write(b'{"id": "torn')
            torn.flush()
            seen = {one.stage: one for one in looking.look()}["generate"]
    assert (seen.responses, seen.failed, seen.tokens, seen.cost) == (4, 1, 307, 0.75)
    path.unlink()
    path.with_name("journal.jsonl.index").unlink()
    with Journal(path, INDEXED) as journal:  # another run in this folder
        journal.append(response(0))
    seen = {one.stage: one for one in looking.look()}["generate"]
    assert (seen.responses, seen.tokens) == (1, 100)


def test_a_training_tells_its_last_whole_step(tmp_path: Path) -> None:
    _, run = make_run(tmp_path, [row(n) for n in range(2)])
    (run / "finetune").mkdir()
    steps = [
        json.dumps({"step": n, "epoch": n / 10, "loss": 0.5, "tokens_per_second": 1234.5})
        for n in (1, 2)
    ]
    (run / "finetune" / "metrics.jsonl").write_text("\n".join(steps) + '\n{"step": 3, "lo')
    said = run_tracestill("status", run, COLUMNS="120").stdout
    assert "unfinished: step 2, epoch 0.20, loss 0.500, 1,234 tokens/s" in said


@pytest.mark.timeout(120)
def test_watching_ends_with_the_run(tmp_path: Path) -> None:
    """It is drawn until the process that holds the run is gone, and says how to go on."""
    _, run = make_run(tmp_path, [row(n) for n in range(2)])
    screen, terminal = pty.openpty()
    drawn: list[bytes] = []

    def read() -> None:
        while True:
            try:
                drawn.append(os.read(screen, 4096))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with locked(run):
        watching = subprocess.Popen(
            [sys.executable, "-m", "tracestill", "status", str(run), "--watch"], stdout=terminal
        )
        os.close(terminal)
        while b"running" not in b"".join(drawn):
            assert watching.poll() is None
            reader.join(0.1)
    assert watching.wait(60) == 0
    reader.join(10)
    os.close(screen)
    assert b"goes on where it was" in b"".join(drawn)
    plain = run_tracestill("status", run, "--watch")
    assert plain.returncode == 1
    assert "draws on a terminal" in plain.stderr
