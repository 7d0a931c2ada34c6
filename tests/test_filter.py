from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from filter.advice import why_nothing_is_kept
from filter.filtering import FilterResult, filter_traces
from filter.verify import verifier_name
from tracestill.recipe.filter import FilterSection
from tracestill.records import Problem, Sampling, Teacher, Trace, Verdict
from tracestill.records.identity import problem_id
from tracestill.records.progress import Progress, ignore_progress

TEACHER = Teacher(
    model="teacher", revision=None, content="c", engine="vllm", engine_version="0",
    quantisation=None, provider="local",
    sampling=Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=100, seed=0),
)  # fmt: skip


def problem(prompt: str, reference: str = "4", **more: Any) -> Problem:
    values = {"kind": "math", "source": "test"} | more
    return Problem(id=problem_id(prompt, reference), prompt=prompt, reference=reference, **values)


def trace(of: Problem, sample: int = 0, **more: Any) -> Trace:
    values = {
        "reasoning": f"thought number {sample} about {of.reference}",
        "answer": f"\\boxed{{{of.reference}}}",
        "finish": "stop",
        "error": None,
        "completion_tokens": 10,
    } | more
    return Trace(
        id=f"{of.id}-{sample}", problem_id=of.id, sample=sample, raw="raw", raw_reasoning=None,
        raw_token_ids=None,
        prompt_tokens=5, teacher=TEACHER, seconds=0.1, cost=0.0, **values,
    )  # fmt: skip


def filtered(
    traces: list[Trace],
    problems: list[Problem],
    heldout: list[Problem] | None = None,
    **settings: Any,
) -> FilterResult:
    by_id = {p.id: p for p in problems}
    settled = FilterSection(**settings)
    return filter_traces(traces, by_id, heldout or [], settled, ignore_progress)


def reasons(result: FilterResult) -> dict[str, str]:
    return {drop.trace_id.rpartition("-")[2]: drop.reason for drop in result.drops}


def test_each_fault_has_its_reason_and_the_sum_holds() -> None:
    two = problem("What is 2 + 2?")
    faulty = {
        "error": {"finish": "error", "error": "the engine died", "answer": None},
        "truncated": {"finish": "length", "answer": None},
        "malformed": {"reasoning": None},
        "empty": {"reasoning": "  "},
        "too_long": {"completion_tokens": 99},
        "incorrect": {"answer": "\\boxed{5}"},
    }
    traces = [trace(two, i, **values) for i, values in enumerate(faulty.values())]
    traces += [trace(two, 6), trace(two, 7, reasoning="thought number 6 about  4")]
    result = filtered(traces, [two], max_tokens=50)
    assert list(reasons(result).values()) == [*faulty, "exact_duplicate"]
    assert result.kept == [f"{two.id}-6"]
    assert len(result.kept) + len(result.drops) == len(traces)
    assert sum(result.dropped.values()) == len(result.drops)
    entered = [come_in for come_in, _ in result.funnel.values()]
    dropped = [lost for _, lost in result.funnel.values()]
    assert entered[0] == len(traces)
    assert [a - b for a, b in zip(entered, dropped, strict=True)] == [*entered[1:], 1]


@pytest.mark.parametrize(
    ("reasoning", "answer"),
    [
        ("a <think>b", "4"),
        ("a", "</think>4"),
        ("a", "<THINK>4"),
        ("a", None),
    ],
)
def test_stray_tags_and_an_open_end_are_malformed(reasoning: str, answer: str | None) -> None:
    two = problem("What is 2 + 2?")
    result = filtered([trace(two, reasoning=reasoning, answer=answer)], [two])
    assert result.dropped == {"malformed": 1}


def test_a_cut_trace_tells_its_tokens_where_somebody_counted_them() -> None:
    two = problem("What is 2 + 2?")
    cut = [trace(two, n, finish="length", completion_tokens=9 * n) for n in (1, 0)]
    details = sorted(drop.detail for drop in filtered(cut, [two]).drops)
    assert details == ["cut after 9 tokens", "cut at a limit of tokens"]


def test_wrong_traces_stay_where_a_recipe_says_so() -> None:
    two = problem("What is 2 + 2?")
    wrong = trace(two, answer="\\boxed{5}")
    result = filtered([wrong], [two], verify=False)
    assert result.kept == [wrong.id]
    assert [verdict.outcome for verdict in result.verdicts] == ["incorrect"]


def test_what_no_verifier_judges_is_unverifiable_and_kept_on_request() -> None:
    essay = problem("Write about rain.", "", kind="open")
    one = trace(essay, answer="Rain falls.")
    assert filtered([one], [essay]).dropped == {"unverifiable": 1}
    assert filtered([one], [essay], keep=["correct", "unverifiable"]).kept == [one.id]


def test_the_order_of_traces_changes_nothing() -> None:
    problems = [problem(f"What is {n} + {n}?", str(2 * n)) for n in range(6)]
    rng = random.Random(0)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    traces = [
        trace(
            p, s, reasoning=" ".join([*(rng.choices(words, k=30) if s % 2 else words), p.reference])
        )
        for p in problems
        for s in range(5)
    ]
    settings: dict[str, Any] = {"max_per_problem": 3, "max_traces": 10}
    result = filtered(traces, problems, **settings)
    assert result.dropped == {"exact_duplicate": 12, "over_budget": 8}
    rng.shuffle(traces)
    again = filtered(traces, problems, **settings)
    assert (again.kept, again.drops) == (result.kept, result.drops)


def test_near_duplicates_are_of_a_kept_trace_of_the_same_problem() -> None:
    one, other = problem("What is 2 + 2?"), problem("What is 1 + 3?")
    words = [f"w{n}" for n in range(100)]
    text, near = " ".join(words), " ".join([*words[:-1], "end"])
    far = " ".join(words[::-1])
    traces = [
        trace(one, 0, reasoning=text),
        trace(one, 1, reasoning=near),
        trace(one, 2, reasoning=far),
        trace(other, 0, reasoning=near),
    ]
    result = filtered(traces, [one, other])
    (drop,) = result.drops
    assert (drop.trace_id, drop.reason) == (traces[1].id, "near_duplicate")
    assert drop.detail.startswith(f"of {traces[0].id}, similarity 0.9")
    assert not filtered(traces, [one, other], near_duplicates=None).drops


def test_minhash_finds_among_many_what_comparing_all_pairs_finds() -> None:
    one = problem("What is 2 + 2?")
    rng = random.Random(1)
    texts = [[f"w{rng.randrange(500)}" for _ in range(120)] for _ in range(60)]
    copies = [[*text[:-1], "end"] for text in texts[:30]]
    traces = [trace(one, i, reasoning=" ".join(t)) for i, t in enumerate([*texts, *copies])]
    result = filtered(traces, [one], near_duplicates={"threshold": 0.8})
    assert [drop.trace_id for drop in result.drops] == [t.id for t in traces[60:]]


LONG = (
    "A train leaves Ulm at nine and travels east at ninety kilometres an hour while another "
    "leaves Graz and travels west; when do they meet each other on the way?"
)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        (LONG, "is held-out problem"),
        (LONG.upper(), "same prompt"),
        (f"Think hard. {LONG} Give hours.", "contained|contains|shares words"),
        (" ".join(LONG.split()[4:20]) + " and then what happens?", "shares words"),
        ("A train leaves Bonn at noon. How long until it has covered one hundred miles?", None),
    ],
)
def test_a_problem_that_a_held_out_one_gives_away_is_dropped(
    prompt: str, found: str | None
) -> None:
    import re

    mine, held = problem(prompt, "11"), problem(LONG, "11")
    result = filtered([trace(mine)], [mine], [held])
    if found is None:
        assert result.kept
        assert not result.drops
    else:
        assert result.dropped == {"contaminated": 1}
        assert re.search(found, result.drops[0].detail)
        assert held.id in result.drops[0].detail
    loose = filtered([trace(mine)], [mine], [held], decontaminate=None)
    assert loose.kept


def test_a_template_that_all_problems_share_is_no_contamination() -> None:
    frame = (
        "You are given a list of numbers below and you must find their sum and write it as one "
        "number without any words around it in the last line of your reply: {}"
    )
    train = [problem(frame.format(f"{n} and {n + 1}"), str(2 * n + 1)) for n in range(20)]
    held = [problem(frame.format(f"{n} and {n + 7}"), str(2 * n + 7)) for n in range(20)]
    copy = problem(frame.format("3 and 10"), "thirteen")
    problems = [*train, copy]
    result = filtered([trace(p) for p in problems], problems, held, verify=False)
    assert [drop.trace_id for drop in result.drops] == [trace(copy).id]


def test_shorter_runs_can_be_asked_for() -> None:
    mine = problem("How far does the red fox jump over the lazy dog?", "1")
    held = problem("Tell me whether the red fox jump over the lazy cat.", "yes")
    assert filtered([trace(mine)], [mine], [held]).kept
    strict = filtered([trace(mine)], [mine], [held], decontaminate={"ngram": 5})
    assert strict.dropped == {"contaminated": 1}


def test_a_trace_of_no_known_problem_is_refused() -> None:
    known, unknown = problem("What is 2 + 2?"), problem("What is 3 + 1?")
    with pytest.raises(ValueError, match="not among the 1 problems"):
        filtered([trace(unknown)], [known])
    with pytest.raises(ValueError, match="give each trace once"):
        filtered([trace(known), trace(known)], [known])


def test_progress_counts_traces_and_what_is_kept() -> None:
    two = problem("What is 2 + 2?")
    seen: list[Progress] = []
    traces = [trace(two), trace(two, 1, answer="\\boxed{5}")]
    filter_traces(traces, {two.id: two}, [], FilterSection(), seen.append)
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert {one.total for one in seen} == {2}
    assert seen[-1] == Progress(done=2, total=2, kept=1)


def test_a_verdict_by_todays_rules_is_not_made_again() -> None:
    two = problem("What is 2 + 2?")
    traces = [trace(two), trace(two, 1)]
    wrong = Verdict(
        trace_id=traces[0].id, verifier=verifier_name("math"), outcome="incorrect",
        extracted=None, detail="as it was", seconds=0.0,
    )  # fmt: skip
    old = dataclasses.replace(wrong, trace_id=traces[1].id, verifier="math/tracestill-0.0.0")
    known = {verdict.trace_id: verdict for verdict in (wrong, old)}
    result = filter_traces(traces, {two.id: two}, [], FilterSection(), ignore_progress, known=known)
    assert result.verdicts[0] == wrong
    assert result.verdicts[1].outcome == "correct"


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({"finish": "length", "answer": None}, "raise generate.max_tokens"),
        ({"reasoning": None}, "use a teacher that reasons"),
        ({"finish": "error", "error": "503", "answer": None}, "requests failed"),
        ({"reasoning": " "}, "generate.system_prompt"),
        ({"completion_tokens": 99}, "raise max_tokens"),
        ({"answer": "\\boxed{5}"}, "references and kind"),
        ({"reasoning": "so it is 4 " * 99}, "repeats itself"),
        ({"reasoning": "4 \x08 \x08 \x08"}, "nobody can read"),
        (
            {"reasoning": "Also ist es vier, denn zwei und zwei sind vier und nichts anderes. 4"},
            "another language",
        ),
    ],
)
def test_a_filter_that_keeps_nothing_says_what_to_change(faults: dict[str, Any], says: str) -> None:
    two = problem("What is 2 + 2?")
    traces = [trace(two, n, **faults) for n in range(3)] + [trace(two, 3, finish="length")]
    result = filtered(traces, [two], max_tokens=50)
    assert not result.kept
    summary, _, advice = why_nothing_is_kept(result.dropped, len(traces)).partition(". For ")
    most, count = next(iter(result.dropped.items()))
    assert summary.startswith(f"none of 4 traces is kept: {count} {most}")
    assert advice.startswith(f"{most}: ")
    assert says in advice


def test_contamination_and_no_verifier_are_explained_too() -> None:
    mine = problem(LONG, "11")
    contaminated = filtered([trace(mine)], [mine], [problem(LONG, "11")])
    assert "problems.train" in why_nothing_is_kept(contaminated.dropped, 1)
    essay = problem("Write about rain.", "", kind="open")
    unverifiable = filtered([trace(essay, answer="Rain falls.")], [essay])
    assert "filter.judge" in why_nothing_is_kept(unverifiable.dropped, 1)
    assert "there is none" in why_nothing_is_kept({}, 0)
