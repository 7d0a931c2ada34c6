from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from filter.verify.pool import Pool
from filter.verify.worker import Result, Worker

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


def call(worker: Worker, what: str) -> Result:
    [result] = worker.call_many([[what]])
    return result


def test_a_worker_says_what_went_wrong_and_serves_on() -> None:
    worker = Worker(OPENER, seconds=0.5)
    assert call(worker, "fine").value == "fine"
    for what, message in [
        ("raise", "RuntimeError: as asked"),
        ("hang", "timed out after 0.5 s"),
        ("hold", "timed out after 0.5 s"),
        ("die", "ended: code 9"),
        ("exit", "ended: code 70"),
        ("memory", "MemoryError"),
    ]:
        assert re.search(message, call(worker, what).error or "")
        assert call(worker, "noise").value == "noise"
    worker.close()


def test_a_row_ends_with_its_bound_and_the_next_begins_at_once() -> None:
    worker = Worker(OPENER, seconds=0.5)
    call(worker, "fine")
    begin = time.monotonic()
    assert call(worker, "hold").error
    assert call(worker, "fine").value == "fine"
    assert time.monotonic() - begin < 1.5
    worker.close()


def test_a_bad_row_costs_the_other_rows_of_its_batch_nothing() -> None:
    worker = Worker(OPENER, seconds=0.5)
    rows = ["a", "hang", "b", "die", "memory", "c", "raise", "d", "hang"]
    results = worker.call_many([[row] for row in rows])
    assert [result.error is not None for result in results] == [
        row in ("hang", "die", "memory", "raise") for row in rows
    ]
    assert [result.value for result in results if not result.error] == ["a", "b", "c", "d"]
    worker.close()


def test_each_row_has_its_own_time() -> None:
    worker = Worker(OPENER, seconds=0.5)
    times = [result.seconds for result in worker.call_many([["a"], ["doze"], ["hang"], ["b"]])]
    assert times[0] < 0.05
    assert 0.1 <= times[1] < 0.3
    assert 0.5 <= times[2] < 1.0
    assert times[3] < 0.05
    worker.close()


def test_what_a_killed_row_changed_is_gone() -> None:
    worker = Worker(OPENER, seconds=0.3)
    assert call(worker, "spoil").error
    assert call(worker, "spoiled").value is False
    worker.close()


def test_a_process_that_is_killed_from_outside_is_replaced() -> None:
    worker = Worker(OPENER, seconds=2.0)
    os.kill(call(worker, "pid").value, 9)
    time.sleep(0.2)
    assert [result.value for result in worker.call_many([["a"], ["b"]])] == ["a", "b"]
    os.kill(call(worker, "pid").value, 9)
    first, second = worker.call_many([["a"], ["b"]])  # the kill may come before, in or after a row
    assert second.value == "b"
    assert first.value == "a" or first.error
    worker.close()


def test_closing_ends_every_process() -> None:
    worker = Worker(OPENER, seconds=2.0)
    served = call(worker, "pid").value
    worker.close()
    for _ in range(100):
        if not Path(f"/proc/{served}").exists():
            return
        time.sleep(0.02)
    pytest.fail("the process that served is still there")


def test_a_forked_process_does_not_talk_to_its_parents_worker() -> None:
    worker = Worker(OPENER, seconds=2.0)
    parents = call(worker, "pid").value
    child = os.fork()
    if not child:
        os._exit(0 if call(worker, "pid").value != parents else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert call(worker, "pid").value == parents
    worker.close()


def test_an_opener_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        Worker("test_verify_worker:no_such_name", seconds=1.0).call_many([["x"]])


def test_a_pool_keeps_the_order_and_works_at_once() -> None:
    pool = Pool(OPENER, workers=2, seconds=1.0)
    pool.map([["fine"]] * 2)
    rows = [["doze"] if i % 2 else [f"row {i}"] for i in range(20)]
    begin = time.monotonic()
    assert [result.value for result in pool.map(rows)] == [row[0] for row in rows]
    assert time.monotonic() - begin < 0.9  # ten rows of 0.1 s
    assert pool.map([]) == []
    pool.close()


def test_threads_share_a_pool() -> None:
    pool = Pool(OPENER, workers=2, seconds=1.0)
    values: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: values.append(pool.map([[str(n)]])[0].value))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values, key=int) == [str(n) for n in range(12)]
    pool.close()
