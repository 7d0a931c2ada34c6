from __future__ import annotations

import threading
from typing import Any

import pytest

from filter.verify import verify
from tracestill.records import Problem


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
