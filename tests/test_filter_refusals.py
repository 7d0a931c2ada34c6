"""What the filter's steps refusal and private find, by examples with their right reason, and what
becomes of the traces by the step's action.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from conftest import ROOT
from pydantic import ValidationError
from test_filter import filtered, problem, reasons, trace
from test_filter_quality import text

from filter.advice import why_nothing_is_kept
from filter.filtering import filter_traces
from filter.verify.judge import confirm
from tracestill.recipe.filter import FilterSection
from tracestill.recipe.filter_steps import Topic
from tracestill.records.progress import ignore_progress

TABLES = Path(__file__).parent / "tables"
REFUSALS = yaml.safe_load((TABLES / "refusals.yaml").read_text(encoding="utf-8"))
PRIVATE = yaml.safe_load((TABLES / "private.yaml").read_text(encoding="utf-8"))
DATA = ROOT.parent / "shared" / "data"
ORDINARY = "We add what is there, step by step, and look at what comes of it in the end. " * 20

REFUSED = "I'm sorry, but I can't assist with that."
POLITICAL = "Taiwan is an inalienable part of China."


def verdict(step: str, example: dict[str, Any]) -> str:
    """The reason for which a step drops a trace, or kept."""

    def filled(part: Any) -> str:
        return text(part).replace("RANDOM", "aB3dE5gH7jK9mN1p").replace("HEX", "0123456789abcdef")

    asked = problem(filled(example.get("prompt", "What is two and two?")), "4")
    one = trace(
        asked,
        reasoning=filled(example.get("reasoning", ORDINARY)),
        answer=filled(example["answer"]),
    )
    settings = {"action": "drop"} | example.get("settings", {})
    dropped = reasons(filtered([one], [asked], steps=[{step: settings}]))
    return next(iter(dropped.values()), "kept")


@pytest.mark.parametrize("example", REFUSALS, ids=[one["name"] for one in REFUSALS])
def test_refusals_are_as_labelled(example: dict[str, Any]) -> None:
    assert verdict("refusal", example) == example["verdict"]


@pytest.mark.parametrize("example", PRIVATE, ids=[one["name"] for one in PRIVATE])
def test_private_data_is_as_labelled(example: dict[str, Any]) -> None:
    assert verdict("private", example) == example["verdict"]


def test_there_are_examples_enough_of_each_verdict() -> None:
    for table in (REFUSALS, PRIVATE):
        counts = Counter(one["verdict"] for one in table)
        assert sum(counts.values()) >= 25
        assert counts["kept"] >= 15
    assert {*get_args(Topic), "sales", "kept"} == {one["verdict"] for one in REFUSALS}


def test_a_refusal_is_dropped_with_the_text_that_tells_it() -> None:
    asked = problem("What is 2 + 2?")
    traces = [trace(asked), trace(asked, 1, answer=f"Well. {REFUSED}"), trace(asked, 2)]
    result = filtered(traces, [asked], steps=["refusal"])
    assert result.kept == [traces[0].id, traces[2].id]
    (drop,) = result.drops
    assert (drop.trace_id, drop.step, drop.reason) == (traces[1].id, "refusal", "refusal")
    assert drop.detail == "sorry, but I can't assist"
    assert (result.noted, result.disputes) == ({}, [])


def test_what_is_only_counted_stays() -> None:
    asked = problem("What is 2 + 2?")
    traces = [
        trace(asked, 0, answer=REFUSED),
        trace(asked, 1, answer=POLITICAL),
        trace(asked, 2, answer=REFUSED, finish="length"),
        trace(asked, 3, answer="bob@example.com, +49 30 901820"),
    ]
    steps = ["form", {"refusal": {"action": "keep"}}, "private"]
    result = filtered(traces, [asked], steps=[*steps, {"select": {"total": 2}}, steps[1]])
    # Of those that reached a step: one was truncated, two were more than wanted.
    assert result.noted == {
        "refusal: refusal": 1, "refusal: political": 1, "private: email": 1, "private: phone": 1,
        "refusal 2: refusal": 1, "refusal 2: political": 1,
    }  # fmt: skip
    assert result.kept == [traces[0].id, traces[1].id]
    assert result.funnel["refusal"] == (3, 0)
    assert result.dropped == {"truncated": 1, "over_budget": 1}


def test_what_is_put_aside_is_dropped_and_listed_for_people() -> None:
    one, other = problem("What is 2 + 2?"), problem("What is 3 + 1?")
    traces = [trace(other, 0, answer=POLITICAL), trace(one, 0, answer=REFUSED), trace(one, 1)]
    truncated = trace(one, 2, answer=REFUSED, finish="length")
    steps = ["form", {"refusal": {"action": "queue"}}]
    result = filtered([*traces, truncated], [one, other], steps=steps)
    assert result.dropped == {"refusal": 1, "political": 1, "truncated": 1}
    assert [(d.trace_id, d.problem_id, d.answer, d.opinions) for d in result.disputes] == [
        (traces[1].id, one.id, REFUSED, {"refusal": "refusal: sorry, but I can't assist"}),
        (traces[0].id, other.id, POLITICAL, {"refusal": f"political: {POLITICAL[:-1]}"}),
    ]


JUDGE = {"model": "m", "engine": "openai", "base_urls": ["http://127.0.0.1:9/v1"], "template": "t"}


def test_a_judge_keeps_what_is_no_refusal() -> None:
    asked = problem("Write the shortest letter that turns an offer down.")
    traces = [
        trace(asked, number, answer=f"{REFUSED} No. {number}", reasoning=f"Reason {number}")
        for number in range(3)
    ]
    traces += [trace(asked, 3), trace(asked, 4, answer=REFUSED, finish="length")]
    prompts: dict[str, str] = {}
    said = ["Verdict: YES", "It turns it down. **Verdict:** no", "?"]
    replies = dict(zip((one.id for one in traces[:3]), said, strict=True))

    def ask(some: Mapping[str, str]) -> Mapping[str, str | None]:
        prompts.update(some)
        return {name: replies[name] for name in some}

    steps = ["form", {"refusal": {"action": "judge"}}, {"select": {"by": "first", "total": 1}}]
    settings = FilterSection.model_validate({"steps": steps, "judge": JUDGE})
    result = filter_traces(
        traces, {asked.id: asked}, [], settings, ignore_progress, confirm=confirm(ask)
    )
    # One that an earlier step drops is not asked about, and one that a later one drops is.
    assert sorted(prompts) == [one.id for one in traces[:3]]
    for part in (asked.prompt, "Reason 1", f"{REFUSED} No. 1", "(refusal): sorry, but I can't"):
        assert part in prompts[traces[1].id]
    assert {drop.trace_id: (drop.reason, drop.detail) for drop in result.drops} == {
        traces[0].id: ("refusal", "sorry, but I can't assist (the judge agrees)"),
        traces[2].id: ("refusal", "sorry, but I can't assist (the judge gave no verdict)"),
        traces[3].id: ("over_budget", "2 traces were left, 1 are kept"),
        traces[4].id: ("truncated", "cut after 10 tokens"),
    }
    assert result.kept == [traces[1].id]
    assert result.noted == {"refusal: refusal": 1}
    assert result.funnel["refusal"] == (4, 2)
    alone = filter_traces(traces, {asked.id: asked}, [], settings, ignore_progress)
    assert alone.dropped["refusal"] == 3


def test_without_a_judge_none_can_be_asked() -> None:
    with pytest.raises(ValidationError, match=r"refusal: action: judge asks the model of filter\."):
        FilterSection.model_validate({"steps": [{"refusal": {"action": "judge"}}]})


def test_a_secret_is_not_written_down_once_more() -> None:
    asked = problem("What is 2 + 2?")
    one = trace(asked, answer="Write to bob@example.com.")
    (drop,) = filtered([one], [asked], steps=[{"private": {"action": "drop"}}]).drops
    assert drop.detail == "bob… (15 characters) in the answer"


def test_blank_reasonings_are_counted_by_topic_by_default() -> None:
    plain, sensitive = problem("What is 2 + 2?"), problem("Who was the tank man of 1989?")
    traces = [trace(plain, reasoning=""), trace(sensitive, reasoning="\n\n")]
    assert filtered(traces, [plain, sensitive]).dropped == {"empty": 1, "skipped_reasoning": 1}
    older = filtered(traces, [plain, sensitive], verify=False, max_tokens=100)
    assert list(older.funnel)[:3] == ["refusal", "form", "length"]
    assert older.dropped == {"empty": 1, "skipped_reasoning": 1}


def test_a_teacher_that_only_refuses_is_explained() -> None:
    asked = problem("What is 2 + 2?")
    result = filtered([trace(asked, answer=REFUSED)], [asked])
    assert "does not answer" in why_nothing_is_kept(result.dropped, 1)
    step = {"refusal": {"patterns": {"sales": ["visit us"]}}}
    own = filtered([trace(asked, answer="Visit us!")], [asked], steps=[step])
    assert own.dropped == {"sales": 1}
    assert "pattern of your own" in why_nothing_is_kept(own.dropped, 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patterns": {"sales": ["("]}}, "no regular expression"),
        ({"patterns": {"Our Sales": ["visit"]}}, "match pattern"),
        ({"topics": ["weather"]}, "skipped_reasoning"),
        ({"action": "delete"}, "'drop', 'keep', 'queue' or 'judge'"),
    ],
)
def test_settings_are_checked_when_the_recipe_is_read(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        FilterSection.model_validate({"steps": [{"refusal": settings}]})


def test_a_pattern_that_takes_too_long_is_one_line() -> None:
    asked = problem("What is 2 + 2?")
    step = {"refusal": {"patterns": {"sales": ["(a|a|aa)+$"]}}}
    with pytest.raises(ValueError, match=r"patterns\.sales takes more than 2 s"):
        filtered([trace(asked, answer="a" * 500 + "b")], [asked], steps=[step])


def correct_solutions() -> Iterator[tuple[str, str]]:
    """Reasoning and answer of real solutions that are labelled correct."""
    for line in (DATA / "gsm8k_model_solutions.jsonl").read_text(encoding="utf-8").splitlines():
        for value in json.loads(line).values():
            if isinstance(value, dict) and value["is_correct"]:
                reasoning, _, answer = value["solution"].rpartition("\n")
                yield reasoning, answer
    for line in (DATA / "math_cot_100x8.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for solution, right in zip(row["code"], row["score"], strict=True):
            if right:
                yield solution, solution[-400:]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real solutions, ../shared/data")
def test_no_correct_solution_is_taken_for_a_refusal() -> None:
    asked = problem("What is 2 + 2?")
    traces = [
        trace(asked, number, reasoning=reasoning, answer=answer)
        for number, (reasoning, answer) in enumerate(correct_solutions())
    ]
    # Their texts whole as an answer too, of which more is searched.
    traces += [
        trace(asked, len(traces) + number, answer=f"{reasoning}\n{answer}")
        for number, (reasoning, answer) in enumerate(correct_solutions())
    ]
    assert len(traces) > 5_000
    result = filtered(traces, [asked], steps=["refusal", {"private": {"action": "drop"}}])
    assert result.drops == []
