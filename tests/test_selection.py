"""The filter's step `select`, and bounds in the student's tokens."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from test_filter import problem, trace

from filter.filtering import FilterResult, filter_traces
from filter.steps import labels
from tracestill.recipe.filter import Agreement, FilterSection, selections
from tracestill.records import AnyTrace, Problem, Score, Trace
from tracestill.records.progress import ignore_progress

PROBLEMS = {p.id: p for p in (problem(f"What is {n} + {n}?", str(2 * n)) for n in range(40))}


@dataclasses.dataclass(frozen=True)
class Reader:
    """A student that counts words, and takes to a trace by its number of tokens."""

    solves: float = 0.5

    def tokens(self, traces: Sequence[AnyTrace]) -> list[int]:
        return [len(f"{t.reasoning} {t.answer}".split()) for t in traces]

    def scores(self, traces: Sequence[AnyTrace], *, local: bool) -> list[Score | None]:
        return [
            None if t.completion_tokens > 70 else Score(
                trace_id=t.id, tokens=1, rank=float(t.completion_tokens), surprisal=2.0,
                local=-float(t.completion_tokens) if local else None,
            )
            for t in traces
        ]  # fmt: skip

    def pass_rates(self, problems: Sequence[Problem]) -> list[float | None]:
        return [min(1.0, int(p.reference) / 80 + self.solves) for p in problems]


def sampled(right: Sequence[int], samples: int = 4) -> list[Trace]:
    """Some samples of each problem, of which so many are right; longer from one to the next."""
    return [
        trace(
            one, sample, completion_tokens=10 * (sample + 1) + number,
            answer=f"\\boxed{{{one.reference if sample < right[number % len(right)] else 1}}}",
        )
        for number, one in enumerate(PROBLEMS.values())
        for sample in range(samples)
    ]  # fmt: skip


def selected(traces: Sequence[Trace], *steps: Any, student: Reader | None = None) -> FilterResult:
    settings = FilterSection.model_validate({"steps": list(steps)})
    return filter_traces(traces, PROBLEMS, [], settings, ignore_progress, student=student)


def select(**settings: Any) -> dict[str, Any]:
    return {"select": settings}


def test_a_window_of_pass_rates_keeps_what_is_neither_easy_nor_hopeless() -> None:
    traces = sampled([0, 1, 3, 4])
    found = selected(traces, select(by="pass_rate", keep=[0.1, 0.9]))
    by_id = {one.id: one for one in traces}
    numbers = list(PROBLEMS)
    assert {numbers.index(by_id[t].problem_id) % 4 for t in found.kept} == {1, 2}
    assert found.dropped == {"out_of_range": 80}
    assert found.drops[0].detail == "pass rate 0, kept is at least 0.1 and at most 0.9"


def test_a_pass_rate_counts_all_answers_whatever_steps_dropped_before() -> None:
    traces = sampled([1])
    assert len(selected(traces, "verify", select(by="pass_rate", keep=[0.2, 0.3])).kept) == 40


def test_failed_requests_say_nothing_of_a_pass_rate() -> None:
    traces = sampled([1], samples=2)
    lost = [
        dataclasses.replace(t, finish="error", error="no reply", reasoning=None, answer=None)
        for t in traces
        if t.sample == 1
    ]
    found = selected(
        [*(t for t in traces if t.sample == 0), *lost], "form",
        select(by="pass_rate", keep=[1, None]),
    )  # fmt: skip
    assert len(found.kept) == 40


@pytest.mark.parametrize(
    ("by", "reverse", "first"),
    [("shortest", False, 0), ("longest", False, 3), ("shortest", True, 3), ("first", False, 0)],
)
def test_so_many_of_a_problem_in_an_order(by: str, reverse: bool, first: int) -> None:
    traces = sampled([4])
    found = selected(traces, select(by=by, reverse=reverse, per_problem=1))
    samples = {t.id: t.sample for t in traces}
    assert {samples[t] for t in found.kept} == {first}
    assert len(found.kept) == 40
    assert found.dropped == {"over_cap": 120}


def test_the_student_s_scores_order_traces_and_what_it_cant_learn_comes_last() -> None:
    traces = sampled([4])
    found = selected(traces, select(by="rsr", per_problem=1), student=Reader())
    assert {t.sample for t in traces if t.id in set(found.kept)} == {0}
    local = selected(traces, select(by="naturalness", per_problem=1), student=Reader())
    assert local.kept == found.kept
    unknown = selected(traces, select(by="rsr", keep=[None, 1e9]), student=Reader())
    assert [d.detail for d in unknown.drops] == ["rsr is not known"] * len(unknown.drops)
    assert unknown.drops


def test_the_student_s_own_pass_rate_is_a_window_too() -> None:
    found = selected(
        sampled([4], samples=1), select(by="student_pass_rate", keep=[0, 0.99]),
        student=Reader(),
    )  # fmt: skip
    assert len(found.kept) == 20
    assert "the student's pass rate 1, kept" in found.drops[0].detail


def test_a_budget_of_tokens_is_the_student_s() -> None:
    traces = sampled([4], samples=1)
    each = Reader().tokens(traces)
    found = selected(traces, select(by="first", tokens=sum(each[:7])), student=Reader())
    assert len(found.kept) == 7
    assert found.drops[0].reason == "over_budget"


def test_without_the_student_a_step_that_needs_it_is_refused() -> None:
    with pytest.raises(ValueError, match="a step depends on the student"):
        selected(sampled([4]), select(by="rsr", total=3))


def test_groups_are_taken_in_turns_as_far_as_there_are() -> None:
    few = problem("Rare?", "1", source="rare")
    problems = {**PROBLEMS, few.id: few}
    traces = [*sampled([4], samples=2), trace(few, 0), trace(few, 1)]
    settings = FilterSection.model_validate(
        {"steps": [select(by="random", total=10, balance="source")]}
    )
    found = filter_traces(traces, problems, [], settings, ignore_progress)
    sources = Counter(problems[t.problem_id].source for t in traces if t.id in set(found.kept))
    assert sources["rare"] == 2
    assert sources.total() == 10


def test_weights_say_how_many_of_a_group() -> None:
    kinds = ["a", "b"]
    problems = {
        p.id: p for p in (problem(f"{k} {n}?", "1", source=k) for k in kinds for n in range(50))
    }
    settings = FilterSection.model_validate(
        {"steps": [select(by="random", total=40, balance="source", weights={"a": 3})]}
    )
    traces = [trace(one, 0) for one in problems.values()]
    found = filter_traces(traces, problems, [], settings, ignore_progress)
    sources = Counter(problems[t.problem_id].source for t in traces if t.id in set(found.kept))
    assert sources == {"a": 30, "b": 10}


def test_halving_draws_the_first_most_often() -> None:
    traces = sampled([4], samples=1)
    firsts: Counter[int] = Counter()
    for seed in range(60):
        found = selected(traces, select(by="longest", total=1, draw="halving", seed=seed))
        (kept,) = (t for t in traces if t.id == found.kept[0])
        firsts[50 - kept.completion_tokens - 1] += 1
    assert 18 <= firsts[0] <= 44  # of 60 half, give or take five deviations
    assert firsts[0] > firsts[1] > firsts[4]


def test_weighted_draws_hard_problems_more_often() -> None:
    traces = sampled([0, 3])
    found = selected(traces, select(by="pass_rate", total=40, draw="weighted"))
    numbers = list(PROBLEMS)
    kept = [t for t in traces if t.id in set(found.kept)]
    hard = sum(numbers.index(t.problem_id) % 2 == 0 for t in kept)
    assert 26 <= hard <= 38  # 4 to 1 where they are drawn, as far as there are 80


def test_only_those_that_a_selection_is_about_are_thinned() -> None:
    traces = sampled([4])
    short = {t.id for t in traces if t.completion_tokens <= 30}
    found = selected(traces, select(by="random", share=0.5, among={"max_tokens": 30}))
    gone = {d.trace_id for d in found.drops}
    assert gone < short
    assert len(gone) == len(short) - round(len(short) / 2)


def test_so_many_problems_with_all_of_their_traces() -> None:
    traces = sampled([4])
    found = selected(traces, select(by="longest", problems=5))
    kept = [t for t in traces if t.id in set(found.kept)]
    assert Counter(t.problem_id for t in kept) == dict.fromkeys(list(PROBLEMS)[35:], 4)


def test_the_most_diverse_traces_of_a_problem_are_unlike() -> None:
    one = next(iter(PROBLEMS.values()))
    words = [" ".join(f"{letter}{n}" for n in range(60)) for letter in "abc"]
    texts = [words[0], words[0] + " end", words[0] + " other end", words[1], words[2]]
    traces = [trace(one, n, reasoning=text) for n, text in enumerate(texts)]
    found = selected(traces, select(by="diverse", per_problem=3))
    assert sorted(t.sample for t in traces if t.id in set(found.kept)) == [0, 3, 4]


def test_a_seed_changes_a_random_choice_and_the_order_of_rows_does_not() -> None:
    traces = sampled([4])
    one = selected(traces, select(by="random", total=20)).kept
    assert selected(traces[::-1], select(by="random", total=20)).kept == one
    assert selected(traces, select(by="random", total=20, seed=1)).kept != one


def test_bounds_in_the_student_s_tokens_by_source() -> None:
    traces = sampled([4], samples=1)
    long = dataclasses.replace(traces[0], reasoning="word " * 50)
    steps = {"length": {"count": "student", "max_tokens": 40}}
    found = selected([long, *traces[1:]], steps, student=Reader())
    assert [d.trace_id for d in found.drops] == [long.id]
    by_source = {"length": {"max_tokens": 1, "sources": {"test": {"max_tokens": 60}}}}
    assert selected(traces, by_source).dropped == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "say how many are kept"),
        ({"by": "random", "keep": [0, 1]}, "random has no value"),
        ({"by": "diverse", "total": 3}, "set per_problem"),
        ({"by": "rsr", "total": 3, "draw": "weighted"}, "goes by a pass rate"),
        ({"total": 3, "weights": {"a": 2}}, "say of which groups"),
        ({"by": "best", "total": 3}, "Input should be"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        FilterSection.model_validate({"steps": [select(**settings)]})


def test_an_empty_selection_is_no_error() -> None:
    assert selected([], select(by="random", share=0.5)).kept == []


@pytest.mark.parametrize("name", list(selections()))
def test_a_shipped_selection_runs_and_says_where_it_is_from(name: str) -> None:
    text = selections()[name].read_text()
    assert text.startswith("# ")
    settings = FilterSection.model_validate({"selection": name})
    assert settings.steps != FilterSection().steps
    traces = [
        dataclasses.replace(one, completion_tokens=one.completion_tokens * 60)
        for one in sampled([0, 1, 2, 3])
    ]
    found = filter_traces(traces, PROBLEMS, [], settings, ignore_progress, student=Reader(0.2))
    assert len(found.kept) + len(found.drops) == len(traces)
    assert list(found.funnel) == labels(settings.steps)


def test_a_selections_steps_are_taken_and_else_what_a_recipe_says_itself() -> None:
    said = {"selection": "skywork-or1", "student": {"samples": 4}, "max_per_problem": 2}
    settings = FilterSection.model_validate(said)
    assert settings.student.samples == 4
    assert settings.steps[-1].select is not None
    assert settings.steps[-1].select.by == "student_pass_rate"
    resolved = settings.model_dump(mode="json")
    assert "selection" not in resolved
    assert FilterSection.model_validate(resolved).steps == settings.steps
    with pytest.raises(ValueError, match="best is none of those shipped: acereason"):
        FilterSection.model_validate({"selection": "best"})


def test_patterns_drop_by_prompt_reasoning_and_answer() -> None:
    proof = problem("Prove that 2 is even.", "2")
    problems = {**PROBLEMS, proof.id: proof}
    other = next(iter(PROBLEMS.values()))
    traces = [
        trace(proof),
        trace(other, 0, reasoning="```python\n1```"),
        trace(other, 1, answer="See https://example.org: \\boxed{0}"),
        trace(other, 2),
    ]
    settings = FilterSection.model_validate({"steps": [
        {"pattern": {"on": "prompt", "drop": ["(?i)prove that"]}},
        {"pattern": {"on": "reasoning", "drop": ["```"]}},
        {"pattern": {"drop": ["https?://"]}},
    ]})  # fmt: skip
    found = filter_traces(traces, problems, [], settings, ignore_progress)
    assert found.kept == [traces[3].id]
    assert [(d.step, d.detail) for d in found.drops][:2] == [
        ("pattern 2", "its reasoning: ```"),
        ("pattern 3", "its answer: https://"),
    ]
    assert found.drops[2].detail == "its problem's prompt"
    with pytest.raises(ValueError, match="no regular expression"):
        FilterSection.model_validate({"steps": [{"pattern": {"drop": ["("]}}]})


def test_a_pattern_that_never_ends_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracestill.records.patterns._SECONDS", 0.2)
    endless = FilterSection.model_validate({"steps": [{"pattern": {"drop": ["(?:a|aa)+$"]}}]})
    long = trace(next(iter(PROBLEMS.values())), answer="a" * 5000 + "b")
    with pytest.raises(ValueError, match=r"steps: pattern: .* takes more than 0 s on a text"):
        filter_traces([long], PROBLEMS, [], endless, ignore_progress)


def answers(of: Problem, *given: str) -> list[Trace]:
    return [trace(of, n, answer=f"\\boxed{{{one}}}") for n, one in enumerate(given)]


def test_a_reference_that_no_sample_gives_is_mended_by_the_majority_and_listed() -> None:
    wrong, right, split = list(PROBLEMS.values())[:3]
    traces = [
        *answers(wrong, "7", "7", "7", "8"),
        *answers(right, right.reference, "7", "7", "7"),
        *answers(split, "7", "7", "8", "8"),
    ]
    settings = {"steps": ["verify"], "agreement": {"samples": 4, "mend": True}}
    section = FilterSection.model_validate(settings)
    found = filter_traces(traces, PROBLEMS, [], section, ignore_progress)
    assert found.kept == [*(t.id for t in traces[:3]), traces[4].id]
    (mended,) = found.mended
    assert (mended.problem_id, mended.reference, mended.answer) == (wrong.id, "0", "7")
    assert (mended.agreeing, mended.samples) == (3, 4)
    verdicts = {v.trace_id: v for v in found.verdicts}
    assert verdicts[traces[0].id].verifier == "majority/1"
    assert "none the reference 0" in verdicts[traces[0].id].detail
    assert not any(d.problem_id == wrong.id for d in found.disputes)
    unmended = section.model_copy(update={"agreement": Agreement(samples=4)})
    found = filter_traces(traces, PROBLEMS, [], unmended, ignore_progress)
    assert found.kept == [traces[4].id]
    assert any(d.problem_id == wrong.id for d in found.disputes)
