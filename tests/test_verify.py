from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from filter.extract import last_boxed, last_stated
from filter.verify import verify
from filter.verify.maths import maths
from filter.verify.worker import Worker, WorkerError
from tracestill.records import Problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed {3}", "3"),
        (r"\fbox{3}", "3"),
        (r"\boxed{a\boxed{b}}", "b"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{}", ""),
        ("no box", None),
        (r"\boxed{ 7 }", "7"),
        ("\\boxed{" * 3000, None),
    ],
)
def test_the_last_balanced_box_is_taken(text: str, expected: str | None) -> None:
    assert last_boxed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 12.", "12"),
        ("**Answer:** 12", "12"),
        ("We get #### 1,234", "1,234"),
        ("the final answer is $\\frac{1}{2}$, as said", "\\frac{1}{2}"),
        ("so $x = 3$ and $y = 4$", "y = 4"),
        ("there are 3 apples and 5 pears", "5"),
        ("no number at all", None),
    ],
)
def test_without_a_box_the_last_statement_counts(text: str, expected: str | None) -> None:
    assert last_stated(text) == expected


def maths_problem(reference: str) -> Problem:
    return Problem(id="p", prompt="?", reference=reference, kind="math", source="test")


@pytest.mark.parametrize(
    ("reference", "answer", "outcome"),
    [
        ("4", r"\boxed{4}", "correct"),
        ("1/2", r"\boxed{\frac{1}{2}}", "correct"),
        ("0.5", r"\boxed{\frac12}", "correct"),
        ("1000", r"\boxed{1,000}", "correct"),
        ("Janet has 3 left. #### 18", "She makes 18 dollars. #### 18", "correct"),
        ("4", r"\boxed{5}", "incorrect"),
        ("4", "", "incorrect"),
        ("4", "I do not know", "incorrect"),
        (r"x^2+2x+1", r"\boxed{(x+1)^2}", "correct"),
    ],
)
def test_mathematics_is_judged(reference: str, answer: str, outcome: str) -> None:
    assert verify(maths_problem(reference), answer, "t").outcome == outcome


def test_an_endless_computation_is_an_error_and_the_next_answer_is_judged() -> None:
    judge = maths(seconds=1.0)
    begin = time.monotonic()
    bomb = judge(maths_problem("4"), r"\boxed{9^{9^{9^9}}}")
    assert bomb.outcome in ("error", "incorrect")
    assert time.monotonic() - begin < 60
    assert judge(maths_problem("1/2"), r"\boxed{\frac{2}{4}}").outcome == "correct"


def test_a_worker_says_what_went_wrong_and_serves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where `open_oddity` is found
    worker = Worker("test_verify:open_oddity", seconds=1.0)
    assert worker.call("fine") == "fine"
    with pytest.raises(WorkerError, match="RuntimeError: as asked"):
        worker.call("raise")
    with pytest.raises(WorkerError, match="timed out after 1 s"):
        worker.call("hang")
    with pytest.raises(WorkerError, match="ended with code"):
        worker.call("die")
    assert worker.call("noise") == "noise"
    worker.close()


def open_oddity() -> Any:
    import os

    def act(what: str) -> str:
        if what == "raise":
            raise RuntimeError("as asked")
        if what == "hang":
            time.sleep(60)
        if what == "die":
            os._exit(9)
        if what == "noise":
            print("printed by a library", flush=True)
        return what

    return act


def test_verdicts_come_from_any_thread() -> None:
    outcomes: list[str] = []

    def judge(number: int) -> None:
        answer = f"\\boxed{{{number}/1}}"
        outcomes.append(verify(maths_problem(str(number)), answer, "t").outcome)

    threads = [threading.Thread(target=judge, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["correct"] * 8


def gym(family: str, **config: Any) -> Problem:
    import reasoning_gym

    entry = reasoning_gym.create_dataset(family, seed=3, size=1, **config)[0]
    return Problem(
        id="p", prompt=entry["question"], reference=str(entry["answer"]), kind="reasoning_gym",
        source=f"reasoning_gym/{family}", meta={"family": family, "config": config, "entry": entry},
    )  # fmt: skip


@pytest.mark.parametrize("family", ["chain_sum", "ab", "manipulate_matrix", "countdown"])
def test_reasoning_gym_is_judged_by_its_own_scorers(family: str) -> None:
    problem = gym(family)
    right = verify(problem, f"\\boxed{{{problem.reference}}}", "t")
    assert (right.outcome, right.extracted) == ("correct", problem.reference)
    assert right.verifier.startswith("reasoning_gym/")
    assert verify(problem, "\\boxed{nonsense}", "t").outcome == "incorrect"
    assert verify(problem, problem.reference, "t").detail == "no \\boxed{…} in the answer"
