from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from filter.verify.worker import Pool, Worker, WorkerError

OPENER = "test_verify_worker:open_oddity"


@pytest.fixture(autouse=True)
def _find_this_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parent.parent}")


def open_oddity() -> Any:
    def act(what: str) -> Any:
        if what == "raise":
            raise RuntimeError("as asked")
        if what == "exit":
            raise SystemExit(0)
        if what == "hang":
            time.sleep(60)
        if what == "hold":  # one call into C that holds the interpreter's lock
            return len(str(9 ** (10**8)))
        if what == "memory":
            return len(bytearray(2**40))
        if what == "die":
            os._exit(9)
        if what == "noise":
            print("printed by a library", flush=True)
            os.write(1, b"and by C")
        if what == "doze":
            time.sleep(0.1)
        if what == "spoil":
            os.environ["SPOILED"] = "1"
            time.sleep(60)
        if what == "spoiled":
            return "SPOILED" in os.environ
        return os.getpid() if what == "pid" else what

    return act


def test_a_worker_says_what_went_wrong_and_serves_on() -> None:
    worker = Worker(OPENER, seconds=0.5)
    assert worker.call("fine") == "fine"
    for what, message in [
        ("raise", "RuntimeError: as asked"),
        ("hang", "timed out after 0.5 s"),
        ("hold", "timed out after 0.5 s"),
        ("die", "ended: code 9"),
        ("exit", "ended: code 70"),
        ("memory", "MemoryError"),
    ]:
        with pytest.raises(WorkerError, match=message):
            worker.call(what)
        assert worker.call("noise") == "noise"
    worker.close()


def test_a_row_ends_with_its_bound_and_the_next_begins_at_once() -> None:
    worker = Worker(OPENER, seconds=0.5)
    worker.call("fine")
    begin = time.monotonic()
    with pytest.raises(WorkerError):
        worker.call("hold")
    assert worker.call("fine") == "fine"
    assert time.monotonic() - begin < 1.5
    worker.close()


def test_a_bad_row_costs_the_other_rows_of_its_batch_nothing() -> None:
    worker = Worker(OPENER, seconds=0.5)
    rows = ["a", "hang", "b", "die", "memory", "c", "raise", "d", "hang"]
    values = worker.call_many([[row] for row in rows])
    assert [isinstance(value, WorkerError) for value in values] == [
        row in ("hang", "die", "memory", "raise") for row in rows
    ]
    assert [value for value in values if isinstance(value, str)] == ["a", "b", "c", "d"]
    worker.close()


def test_what_a_killed_row_changed_is_gone() -> None:
    worker = Worker(OPENER, seconds=0.3)
    with pytest.raises(WorkerError):
        worker.call("spoil")
    assert worker.call("spoiled") is False
    worker.close()


def test_a_process_that_is_killed_from_outside_is_replaced() -> None:
    worker = Worker(OPENER, seconds=2.0)
    os.kill(worker.call("pid"), 9)
    time.sleep(0.2)
    assert worker.call_many([["a"], ["b"]]) == ["a", "b"]
    os.kill(worker.call("pid"), 9)
    values = worker.call_many([["a"], ["b"]])  # the kill may come before, in or after a row
    assert values[1] == "b"
    assert values[0] == "a" or isinstance(values[0], WorkerError)
    worker.close()


def test_closing_ends_every_process() -> None:
    worker = Worker(OPENER, seconds=2.0)
    served = worker.call("pid")
    worker.close()
    for _ in range(100):
        if not Path(f"/proc/{served}").exists():
            return
        time.sleep(0.02)
    pytest.fail("the process that served is still there")


def test_a_forked_process_does_not_talk_to_its_parents_worker() -> None:
    worker = Worker(OPENER, seconds=2.0)
    parents = worker.call("pid")
    child = os.fork()
    if not child:
        os._exit(0 if worker.call("pid") != parents else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert worker.call("pid") == parents
    worker.close()


def test_an_opener_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        Worker("test_verify_worker:no_such_name", seconds=1.0).call("x")


def test_a_pool_keeps_the_order_and_works_at_once() -> None:
    pool = Pool(OPENER, workers=2, seconds=1.0)
    pool.map([["fine"]] * 2)
    rows = [["doze"] if i % 2 else [f"row {i}"] for i in range(20)]
    begin = time.monotonic()
    assert pool.map(rows) == [row[0] for row in rows]
    assert time.monotonic() - begin < 0.9  # ten rows of 0.1 s
    assert pool.map([]) == []
    pool.close()


def test_threads_share_a_pool() -> None:
    pool = Pool(OPENER, workers=2, seconds=1.0)
    values: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: values.append(pool.call(str(n)))) for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values, key=int) == [str(n) for n in range(12)]
    pool.close()
