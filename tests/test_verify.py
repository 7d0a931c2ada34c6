from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from filter.verify import Answer, by_rules, verifier_names, verify, verify_many
from tracestill.records import Problem, Sampling, Teacher, Trace


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


def test_a_verdict_has_its_own_answers_time() -> None:
    hard = maths_problem(r"\sin(x)^2")
    rows = [
        Answer(problem=hard, text=text, trace_id="t")
        for text in (r"\boxed{\sin(x)^2}", r"\boxed{1-\cos(x)^2}")
    ]
    verify_many(rows)  # starts the worker
    fast, slow = verify_many(rows)  # the second is for math-verify
    assert [fast.outcome, slow.outcome] == ["correct", "correct"]
    assert 0 < 3 * fast.seconds < slow.seconds


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_a_slow_program_costs_a_fast_one_no_time() -> None:
    tests = json.dumps({"inputs": ["1"], "outputs": ["1"]})
    task = Problem(id="p", prompt="?", reference=tests, kind="code", source="test")
    sources = ["print(1)", "import time\ntime.sleep(0.8)\nprint(1)"]
    verify_many([Answer(problem=task, text=sources[0], trace_id="t")] * 2)
    rows = [Answer(problem=task, text=source, trace_id="t") for source in sources]
    fast, slow = verify_many(rows)
    assert fast.seconds < 0.4
    assert slow.seconds >= 0.8


def test_the_rules_are_a_verifier_of_traces() -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=9, seed=0)
    teacher = Teacher(
        model="t", revision=None, content="c", engine="vllm", engine_version="",
        quantisation=None, provider="local", sampling=sampling,
    )  # fmt: skip
    traces = [
        Trace(
            id=str(sample), problem_id="p", sample=sample, raw="", raw_reasoning=None,
            raw_token_ids=None, reasoning=r"\boxed{4}", answer=answer, finish="stop", error=None,
            prompt_tokens=1, completion_tokens=1, teacher=teacher, seconds=0.0, cost=0.0,
        )
        for sample, answer in enumerate([r"\boxed{4}", r"\boxed{5}", None])
    ]  # fmt: skip
    verifier = by_rules()
    verdicts = verifier.verify([(maths_problem("4"), trace) for trace in traces])
    assert [verdict.outcome for verdict in verdicts] == ["correct", "incorrect", "incorrect"]
    assert [verdict.trace_id for verdict in verdicts] == ["0", "1", "2"]
    assert {verdict.verifier for verdict in verdicts} <= set(verifier.names)
    assert verifier.names == verifier_names()
