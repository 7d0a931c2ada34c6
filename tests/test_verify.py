from __future__ import annotations

from typing import Any

import pytest

from filter.verify import Answer, verify, verify_many
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


def test_a_row_that_can_not_be_read_costs_no_other_its_verdict() -> None:
    no_text: Any = 4
    rows = [
        Answer(problem=maths_problem(reference), text=text, trace_id=text)
        for reference, text in [("4", r"\boxed{4}"), (no_text, r"\boxed{5}"), ("6", r"\boxed{6}")]
    ]
    verdicts = verify_many(rows)
    assert [verdict.outcome for verdict in verdicts] == ["correct", "error", "correct"]
    assert verdicts[1].detail.startswith("AttributeError")
    assert verify(rows[1].problem, rows[1].text, "t").outcome == "error"
