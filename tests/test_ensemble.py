"""What the rules leave open: agreement, the judge, and the queue for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run_tracestill

from filter.ensemble import common_answers, settle
from filter.verify import verify
from filter.verify.doubts import doubtful
from filter.verify.judge import judge
from tracestill.explore.load import load_run
from tracestill.recipe.filter import Agreement
from tracestill.records import Problem, Sampling, Teacher, Trace, Verdict, read_table
from tracestill.records import journal as journals
from tracestill.records.verifier import Verifier

SAMPLING = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=9, seed=0)
TEACHER = Teacher(
    model="t", revision=None, content="c", engine="vllm", engine_version="", quantisation=None,
    provider="local", sampling=SAMPLING,
)  # fmt: skip
RUBRIC = "{{ problem }}|{{ reference }}|{{ answer }}"


def problem(kind: Any = "open", reference: str = "") -> Problem:
    return Problem(id="p", prompt="What?", reference=reference, kind=kind, source="test")


def trace(number: int, answer: str | None) -> Trace:
    return Trace(
        id=f"t{number}", problem_id="p", sample=number, raw="", raw_reasoning=None,
        raw_token_ids=None, reasoning="r",
        answer=answer, finish="stop", error=None, prompt_tokens=1, completion_tokens=1,
        teacher=TEACHER, seconds=0.0, cost=0.0,
    )  # fmt: skip


def settled(
    question: Problem, answers: list[str], agreement: Agreement | None, asked: Verifier | None
) -> tuple[list[str], list[tuple[str, dict[str, Any]]]]:
    """The outcomes of the answers, and the queue."""
    traces = [trace(number, answer) for number, answer in enumerate(answers)]
    rules = {t.id: verify(question, t.answer, t.id) for t in traces}
    common = common_answers(traces, agreement) if agreement else {}
    verdicts, disputes, against = settle(traces, {"p": question}, rules, common, asked)
    queue = [(d.trace_id, d.opinions) for d in [*disputes, *against]]
    return [verdicts[t.id].outcome for t in traces], queue


def says(**replies: str) -> Verifier:
    def ask(prompts: Mapping[str, str]) -> Mapping[str, str | None]:
        return {name: replies.get(prompt.rpartition("|")[2]) for name, prompt in prompts.items()}

    return judge("m", RUBRIC, ask)


PARIS = ["Paris", "The answer is Paris.", "paris", "Rome"]


def test_most_samples_decide_where_no_rule_does() -> None:
    outcomes, queue = settled(problem(), PARIS, Agreement(), None)
    assert outcomes == ["correct", "correct", "correct", "incorrect"]
    assert queue == []


@pytest.mark.parametrize("answers", [PARIS[:3], ["a", "b", "c", "c"], ["a", "a", "b", "b"]])
def test_too_few_or_too_divided_samples_decide_nothing(answers: list[str]) -> None:
    outcomes, queue = settled(problem(), answers, Agreement(), None)
    assert set(outcomes) == {"unverifiable"}
    assert queue == []


def test_rules_that_decide_are_not_overruled_but_a_doubtful_reference_is_queued() -> None:
    wrong = [r"\boxed{5}"] * 3 + [r"\boxed{4}"]
    outcomes, queue = settled(problem("math", "4"), wrong, Agreement(), says())
    assert outcomes == ["incorrect"] * 3 + ["correct"]
    ((first, opinions),) = queue
    assert first == "t0"
    assert sorted(opinions.values()) == ["correct", "incorrect"]
    assert opinions["agreement/1"] == "correct"


def test_the_judge_settles_what_is_open() -> None:
    asked = says(Rome="Wrong city.\nVerdict: incorrect", Paris="Fine. **Verdict:** Correct")
    outcomes, queue = settled(problem(), ["Paris", "Rome", "Oslo"], None, asked)
    assert outcomes == ["correct", "incorrect", "unverifiable"]
    assert queue == []


def test_where_judge_and_samples_disagree_people_decide() -> None:
    asked = says(Paris="verdict: incorrect", Rome="verdict: incorrect")
    outcomes, queue = settled(problem(), ["Paris"] * 3 + ["Rome"], Agreement(), asked)
    assert outcomes == ["unverifiable"] * 3 + ["incorrect"]
    assert [name for name, _ in queue] == ["t0", "t1", "t2"]


@pytest.mark.parametrize("reply", [None, "I can not tell."])
def test_a_judge_that_can_not_tell_leaves_nothing_to_agreement_alone(reply: str | None) -> None:
    asked = judge("m", RUBRIC, lambda prompts: dict.fromkeys(prompts, reply))
    outcomes, queue = settled(problem(), PARIS, Agreement(), asked)
    assert outcomes == ["unverifiable"] * 4
    assert [name for name, _ in queue] == ["t0", "t1", "t2", "t3"]
    assert queue[0][1] == {"agreement/1": "correct", asked.names[0]: "unverifiable"}


def test_where_samples_have_no_majority_the_judge_decides() -> None:
    asked = says(a="Verdict: correct", b="Verdict: incorrect")
    outcomes, queue = settled(problem(), ["a", "a", "b", "b"], Agreement(), asked)
    assert outcomes == ["correct", "correct", "incorrect", "incorrect"]
    assert queue == []


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("Verdict: correct", "correct"),
        ("Verdict: correct? No.\nVerdict: incorrect", "incorrect"),
        ("The answer is correct.", "unverifiable"),
        ("Verdict: partly", "unverifiable"),
        ("", "unverifiable"),
        (None, "unverifiable"),
    ],
)
def test_only_the_last_stated_verdict_counts(reply: str | None, outcome: str) -> None:
    (verdict,) = judge("some/model", RUBRIC, lambda prompts: dict.fromkeys(prompts, reply)).verify(
        [(problem(), trace(0, "x"))]
    )
    assert verdict.outcome == outcome
    assert verdict.verifier.startswith("judge/some/model/")


def test_a_verdict_names_model_and_rubric() -> None:
    def named(model: str, rubric: str) -> Verdict:
        (verdict,) = judge(model, rubric, lambda prompts: {}).verify([(problem(), trace(0, "x"))])
        return verdict

    names = {named(m, r).verifier for m in ("a", "b") for r in (RUBRIC, RUBRIC + "!")}
    assert len(names) == 4


def test_a_rubric_with_a_wrong_name_is_one_line() -> None:
    with pytest.raises(ValueError, match="it has problem, reference and answer"):
        judge("m", "{{ question }}", lambda prompts: {}).verify([(problem(), trace(0, "x"))])


@pytest.mark.slow
def test_a_run_asks_a_real_model_once_and_names_it(copied: Path, recipe: Path, root: Path) -> None:
    """The miniature can't judge: all that counts here is that it is asked, and asked once."""
    rows = copied / "open.jsonl"
    asked = "State the final answer to the following arithmetic problem: 1 + 2 + 3 - 4 + 5 + 6 ="
    rows.write_text(json.dumps({"prompt": asked, "reference": ""}) + "\n")
    values = yaml.safe_load(recipe.read_text())
    values["problems"]["train"].append({"source": "file", "path": str(rows), "kind": "open"})
    mine = copied / "open.yaml"
    mine.write_text(yaml.safe_dump(values))
    sets = (
        "--set",
        f"filter.judge={{model: {root}/miniature/teacher, max_model_len: 512, max_tokens: 32, "
        f"template: {root}/recipes/rubrics/judge.jinja}}",
    )
    out = copied.parent / "judged"
    done = run_tracestill("filter", mine, "--out", out, *sets)
    assert done.returncode == 0, done.stderr
    run = load_run(out)
    verdicts = run.verdicts()
    judged = verdicts[verdicts["verifier"].str.contains("judge/miniature/teacher/")]
    assert len(judged) >= 1
    journal = out / "filter" / "judge.journal.jsonl"
    before = journal.read_bytes()
    assert len(list(journals.read(journal))) == len({v.answer for v in _open_traces(out)})
    done = run_tracestill("run", mine, "--out", out, "--from", "filter", "--to", "filter", *sets)
    assert done.returncode == 0, done.stderr
    assert journal.read_bytes() == before


def _open_traces(run: Path) -> list[Trace]:
    problems = {p.id for p in read_table(run / "problems", "train", Problem) if p.kind == "open"}
    traces = read_table(run / "generate", "traces", Trace)
    return [t for t in traces if t.problem_id in problems and t.answer]


def test_a_reference_that_is_not_right_by_itself_is_reported() -> None:
    def made(kind: Any, reference: str, **meta: Any) -> Problem:
        return Problem(
            id=f"{kind} {reference}", prompt="?", reference=reference, kind=kind, source="test",
            meta=meta,
        )  # fmt: skip

    problems = [
        made("math", "\\frac{1}{2}"),
        made("math", ""),
        made("choice", "B", choices=["x", "y"]),
        made("choice", "nothing like it", choices=["x", "y"]),
        made("code", '{"inputs": ["1"], "outputs": ["1"]}'),
        made("code", "assert True"),
        made("open", ""),
    ]
    assert {doubt.problem_id for doubt in doubtful(problems)} == {
        "math ",
        "choice nothing like it",
        "code assert True",
    }


@pytest.mark.slow
def test_a_run_asks_a_real_model_about_refusals(copied: Path, recipe: Path, root: Path) -> None:
    steps = "[{refusal: {action: judge, patterns: {sevens: ['7']}}}, form, verify]"
    judge_ = (
        f"filter.judge={{model: {root}/miniature/teacher, max_model_len: 1024, max_tokens: 16, "
        f"template: {root}/recipes/rubrics/judge.jinja}}"
    )
    command = ("run", recipe, "--out", copied, "--to", "filter", "--set", f"filter.steps={steps}")
    done = run_tracestill(*command, "--set", judge_)
    assert done.returncode == 0, done.stderr
    drops = load_run(copied).drops()
    found = drops[drops["step"] == "refusal"]
    assert len(found) >= 1
    assert set(found["detail"]) == {"7 (the judge gave no verdict)"}
    journal = copied / "filter" / "judge.journal.jsonl"
    assert len(list(journals.read(journal))) >= 1
    without = run_tracestill(*command)
    assert without.returncode == 1
    assert "refusal: action: judge asks the model of filter.judge: name one" in without.stderr
