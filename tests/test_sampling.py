"""Sampling by rules and budgets, and engines that fail, with a scripted engine."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from asking import Asked, never

from generate.budget import BudgetReachedError
from generate.engine import Engine, EngineDiedError, Request, Response, Usage, failed_response
from generate.ledger import Ledger
from generate.passrates import mean_pass_rate, pass_rates
from generate.stopping import Rule
from generate.verdicts import read_verdicts
from tracestill.recipe.generate import Budget, Prices
from tracestill.records import Journal, Problem, Progress, Trace, Verdict, problem_id
from tracestill.records import journal as journals
from tracestill.records.verifier import Verifier


class Scripted:
    """An engine that answers by a function, a few at a time, and counts what it is asked."""

    name = "scripted"
    version = "1"
    continues = True

    def __init__(self, answer: Callable[[Request], str], at_once: int = 4) -> None:
        self.asked: list[Request] = []
        self.finish: Callable[[Request], Any] = lambda request: "stop"
        self._answer = answer
        self._at_once = at_once

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        waiting: list[Request] = []
        for request in requests:
            if request is not None:
                self.asked.append(request)
                waiting.append(request)
                if len(waiting) < self._at_once:
                    continue
            while waiting:
                yield self._respond(waiting.pop())
            yield None
        while waiting:
            yield self._respond(waiting.pop())

    def _respond(self, request: Request) -> Response:
        raw = self._answer(request)
        return Response(
            id=request.id, raw=raw, token_ids=None, prefill="", finish=self.finish(request),
            error=None, prompt_tokens=10, completion_tokens=90, new_tokens=90, seconds=0.0,
        )  # fmt: skip

    def close(self) -> None:
        pass


def numbered(count: int) -> list[Problem]:
    return [
        Problem(
            id=problem_id(f"p{n}", str(n)),
            prompt=f"p{n}",
            reference=str(n),
            kind="math",
            source="s",
        )
        for n in range(count)
    ]


def by_reference(pairs: Sequence[tuple[Problem, Trace]]) -> list[Verdict]:
    return [
        Verdict(
            trace_id=trace.id, verifier="same/1", extracted=trace.answer, detail="", seconds=0.0,
            outcome="correct" if trace.answer == problem.reference else "incorrect",
        )
        for problem, trace in pairs
    ]  # fmt: skip


VERIFIER = Verifier(verify=by_reference, names=["same/1"])


def right_at_last(request: Request) -> str:
    """Problem n is answered rightly from its n-th sample on: what its seed can't tell, its count
    does.
    """
    problem = request.messages[-1]["content"]
    seen[problem] = seen.get(problem, 0) + 1
    return thought(problem[1:] if seen[problem] > int(problem[1:]) else "wrong")


def thought(answer: str) -> str:
    return f"<think>\nso\n</think>\n\n{answer}"


seen: dict[str, int] = {}


@pytest.fixture(autouse=True)
def _forget() -> None:
    seen.clear()


def test_a_problem_gets_samples_until_one_is_verified(ask: Asked, tmp_path: Path) -> None:
    rule = Rule(min=1, max=6, until_correct=1)
    engine = Scripted(right_at_last)
    traces = ask(numbered(10), engine=lambda: engine, rule=rule, verifier=VERIFIER)
    counts = Counter(trace.problem_id for trace in traces)
    # Problem n is solved by sample n + 1; those from the sixth on have all that there is.
    assert [counts[p.id] for p in numbered(10)] == [1, 2, 3, 4, 5, 6, 6, 6, 6, 6]
    assert len(engine.asked) == len(traces) == sum(counts.values())
    # All is kept, verdicts too: nothing is asked or judged again.
    never_judged = Verifier(verify=None, names=["same/1"])  # type: ignore[arg-type]
    again = ask(numbered(10), engine=never, rule=rule, verifier=never_judged)
    assert again == traces
    # Another verifier judges anew what is there, and requests what is missing by its verdicts.
    other = Verifier(
        verify=lambda pairs: [dataclasses.replace(v, verifier="x/2") for v in by_reference(pairs)],
        names=["x/2"],
    )
    assert ask(numbered(10), engine=never, rule=rule, verifier=other) == traces
    # Raising max asks only those that are not solved.
    more = Scripted(right_at_last)
    wider = Rule(min=1, max=8, until_correct=1)
    traces = ask(numbered(10), engine=lambda: more, rule=wider, verifier=VERIFIER)
    assert {r.messages[-1]["content"] for r in more.asked} == {"p6", "p7", "p8", "p9"}
    assert len(traces) == 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 8 + 8


def test_a_truncated_right_answer_does_not_end_sampling(ask: Asked, tmp_path: Path) -> None:
    """The filter drops it, so that the problem would end without a trace."""
    cut = "<think>\nso\n</think>\n\n0"
    engine = Scripted(lambda request: cut)
    finishes = iter(["length", "length", "stop"])
    engine.finish = lambda request: next(finishes)
    options: dict[str, Any] = {"rule": Rule(min=1, max=6, until_correct=1), "verifier": VERIFIER}
    traces = ask(numbered(1), engine=lambda: engine, max_tokens=90, **options)
    assert [trace.finish for trace in traces] == ["length", "length", "stop"]
    # The same holds for the run that resumes, which has only the verdicts to go by.
    assert ask(numbered(1), engine=never, max_tokens=90, **options) == traces
    ledgers: list[Ledger] = []
    ask(numbered(1), engine=never, max_tokens=90, ledgers=ledgers, **options)
    (rate,) = pass_rates(ledgers[0])
    assert (rate.samples, rate.correct) == (3, 1)
    # So with what the filter finds too long, or without a reasoning.
    shorter = {**options, "max_kept_tokens": 89}
    more = Scripted(lambda request: "0")
    traces = ask(numbered(1), engine=lambda: more, max_tokens=90, **shorter)
    assert len(traces) == 6


def test_verdicts_of_older_journals_are_made_again(ask: Asked, tmp_path: Path) -> None:
    options: dict[str, Any] = {"rule": Rule(min=1, max=2, until_correct=1)}
    ask(numbered(1), engine=lambda: Scripted(right_at_last), verifier=VERIFIER, **options)
    path = tmp_path / "verdicts.journal.jsonl"
    rows = [row for row, _ in journals.read(path)]
    for row in rows:
        del row["unusable"], row["completion_tokens"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counting = Counting()
    verifier = Verifier(verify=counting, names=["same/1"])
    ask(numbered(1), engine=never, verifier=verifier, **options)
    ask(numbered(1), engine=never, verifier=verifier, **options)
    assert counting.judged == len(rows) == 1


class Counting:
    judged = 0

    def __call__(self, pairs: Sequence[tuple[Problem, Trace]]) -> list[Verdict]:
        self.judged += len(pairs)
        return by_reference(pairs)


def test_a_budget_that_cuts_a_run_leaves_no_biased_rate(ask: Asked, tmp_path: Path) -> None:
    """Three in ten problems are solved by the first sample; the budget ends before the others are
    solved: the mean over those that the rule has ended would be 100%.
    """
    first: Counter[str] = Counter()

    def answer(request: Request) -> str:
        problem = request.messages[-1]["content"][1:]
        first[problem] += 1
        return thought(problem if int(problem) % 10 < 3 and first[problem] == 1 else "wrong")

    rule = Rule(min=1, max=8, until_correct=1)
    options: dict[str, Any] = {"rule": rule, "verifier": VERIFIER, "max_tokens": 90}
    budget = Budget(tokens=6_000, then="go_on")
    ledgers: list[Ledger] = []
    ask(numbered(40), engine=lambda: Scripted(answer), budget=budget, ledgers=ledgers, **options)
    (ledger,) = ledgers
    assert ledger.cut_short
    rates = list(pass_rates(ledger))
    assert {rate.pass_rate for rate in rates} == {1.0, None}
    assert mean_pass_rate(ledger) == pytest.approx(0.3)
    # What is still wanted is known of each problem: one more of each that has no right sample.
    assert ledger.missing().tolist() == [
        int(rate.pass_rate is None and rate.samples < 8) for rate in rates
    ]
    ask(numbered(40), engine=lambda: Scripted(answer), ledgers=ledgers, **options)
    assert not ledgers[1].cut_short
    assert mean_pass_rate(ledgers[1]) == pytest.approx(0.3)
    # Where not even the first samples are there, nothing can be said.
    (tmp_path / "journal.jsonl").unlink()
    few = Budget(tokens=1_000, then="go_on")
    ask(numbered(40), engine=lambda: Scripted(answer), budget=few, ledgers=ledgers, **options)
    assert mean_pass_rate(ledgers[2]) is None


def test_what_a_budget_leaves_is_of_all_sources(ask: Asked) -> None:
    """Problems lie source by source; half the budget does not ask half the sources."""
    problems = [
        dataclasses.replace(one, source=str(n // 100)) for n, one in enumerate(numbered(400))
    ]
    budget = Budget(tokens=20_000, then="go_on")
    traces = ask(problems, engine=lambda: Scripted(lambda _: "1"), budget=budget, max_tokens=90)
    sources = {one.id: one.source for one in problems}
    asked = Counter(sources[trace.problem_id] for trace in traces)
    assert 190 <= asked.total() <= 200
    assert all(30 <= asked[source] <= 70 for source in "0123"), asked


def test_a_verdict_does_not_outlive_the_response_that_it_is_of(ask: Asked, tmp_path: Path) -> None:
    """A loss of power may take a response whose verdict is on disk; the one that is sampled
    in its place lies where it lay.
    """
    options: dict[str, Any] = {"rule": Rule(min=1, max=1), "verifier": VERIFIER}
    ask(numbered(1), engine=lambda: Scripted(lambda request: thought("0")), **options)
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b"")
    unjudged = {**options, "verifier": Verifier(verify=interrupted, names=["same/1"])}
    with pytest.raises(InterruptedError):
        ask(numbered(1), engine=lambda: Scripted(lambda request: thought("9")), **unjudged)
    assert len(list(journals.read(journal))) == 1
    ask(numbered(1), engine=never, **options)
    verdicts = read_verdicts(tmp_path / "verdicts.journal.jsonl", VERIFIER.names)
    assert [judged.verdict.outcome for judged in verdicts] == ["incorrect"]


def interrupted(pairs: Sequence[tuple[Problem, Trace]]) -> list[Verdict]:
    raise InterruptedError


def test_a_hopeless_problem_is_given_up(ask: Asked) -> None:
    rule = Rule(min=1, max=8, until_correct=1, give_up=3)
    traces = ask(numbered(6), engine=lambda: Scripted(right_at_last), rule=rule, verifier=VERIFIER)
    counts = Counter(trace.problem_id for trace in traces)
    assert [counts[p.id] for p in numbered(6)] == [1, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("cap", [Budget(tokens=1_500), Budget(money=15e-4)])
def test_a_budget_is_never_exceeded_and_says_what_is_missing(
    ask: Asked, tmp_path: Path, cap: Budget
) -> None:
    # A sample takes 100 tokens: 10 of the prompt, which is at most as many as its 2 or 3 bytes.
    options = {"max_tokens": 90, "prices": Prices(prompt=1.0, completion=1.0), "budget": cap}
    engine = Scripted(lambda request: "1")
    with pytest.raises(BudgetReachedError, match=r"raise generate\.budget and run again"):
        ask(numbered(40), engine=lambda: engine, **options)
    spent = 100 * len(engine.asked)
    assert 1_200 <= spent <= 1_500
    # The same budget holds for the run that resumes.
    with pytest.raises(BudgetReachedError):
        ask(numbered(40), engine=lambda: engine, **options)
    assert 100 * len(engine.asked) <= 1_500
    going_on = {**options, "budget": cap.model_copy(update={"then": "go_on"})}
    assert len(ask(numbered(40), engine=lambda: engine, **going_on)) == len(engine.asked)
    raised = {**options, "budget": Budget(tokens=10_000)}
    assert len(ask(numbered(40), engine=lambda: engine, **raised)) == 40
    assert len(engine.asked) == 40


class Failing(Scripted):
    """Charges failed attempts before each answer: `usage` of them, or as unknown."""

    def __init__(self, attempts: int, usage: Usage | None, *, answers: bool = True) -> None:
        super().__init__(lambda request: thought("1"), at_once=1)
        self._attempts, self._usage, self._answers = attempts, usage, answers

    def _respond(self, request: Request) -> Response:
        for _ in range(self._attempts):
            if not request.charge_failed(self._usage):
                return failed_response(request.id, "the budget covers no further attempt")
        if not self._answers:
            return failed_response(request.id, "broken")
        return super()._respond(request)


@pytest.mark.parametrize("usage", [Usage(prompt_tokens=10, completion_tokens=80), None])
@pytest.mark.parametrize("answers", [True, False])
def test_failed_attempts_count_for_the_budget(
    ask: Asked, tmp_path: Path, usage: Usage | None, answers: bool
) -> None:
    """Reported usage counts, else all that an attempt may have cost: 92 or 93 tokens here."""
    options: dict[str, Any] = {"max_tokens": 90, "budget": Budget(tokens=1_200)}
    engine = Failing(2, usage, answers=answers)
    with pytest.raises(BudgetReachedError, match=r"[\d,]+ of 1,200 tokens"):
        ask(numbered(30), engine=lambda: engine, **options)
    rows = [row for row, _ in journals.read(tmp_path / "journal.jsonl")]
    spent = sum(row["spent"] for row in rows)
    assert 900 < spent <= 1_200
    assert len(rows) <= 7
    assert sum(row["paid"] for row in rows) > 900e-6
    # The run that resumes knows of them.
    again = Scripted(lambda request: thought("1"))
    with pytest.raises(BudgetReachedError):
        ask(numbered(30), engine=lambda: again, **options)
    assert spent + 100 * len(again.asked) <= 1_200


def test_failed_attempts_outlive_the_engine_that_made_them(ask: Asked, tmp_path: Path) -> None:
    class Dying(Scripted):
        def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
            request = next(iter(requests))
            assert request is not None
            assert request.charge_failed(Usage(prompt_tokens=3, completion_tokens=4))
            raise EngineDiedError("out of memory")
            yield None

    engines = iter([Dying(str), Scripted(lambda request: thought("1"))])
    traces = ask(numbered(2), engine=lambda: next(engines))
    assert [trace.finish for trace in traces] == ["stop", "stop"]
    rows = [row for row, _ in journals.read(tmp_path / "journal.jsonl")]
    assert sorted(row["spent"] for row in rows) == [7, 100, 100]


USELESS = {
    "truncated": ("length", thought("1"), "raise generate.max_tokens"),
    "malformed": ("stop", "It is 1", "think tags"),
    "error": ("error", "", "see what the error says"),
}


@pytest.mark.parametrize("reason", USELESS)
def test_useless_first_traces_stop_the_run(ask: Asked, tmp_path: Path, reason: str) -> None:
    finish, raw, fix = USELESS[reason]
    engine = Scripted(lambda request: raw)
    engine.finish = lambda request: finish
    options: dict[str, Any] = {"canary": True, "max_tokens": 90}
    with pytest.raises(ValueError, match=rf"of the first 50 traces .*{reason}.*{fix}") as caught:
        ask(numbered(200), engine=lambda: engine, **options)
    assert "generate.canary=false" in str(caught.value)
    assert "\n" not in str(caught.value)
    asked = len(engine.asked)
    assert 45 <= asked < 80
    # Nothing that was paid is lost, and whoever resumes the run is not asked again.
    assert len(list(journals.read(tmp_path / "journal.jsonl"))) == asked
    assert len(ask(numbered(200), engine=lambda: engine, **options)) == 200


def test_a_canary_lets_other_runs_be(ask: Asked, tmp_path: Path) -> None:
    """Where one trace in eight can be used, where there are few samples, and where it is off."""

    def sometimes(request: Request) -> str:
        return thought("1") if int(request.messages[-1]["content"][1:]) % 8 == 0 else "1"

    for canary, count, answer in [
        (True, 200, sometimes),
        (True, 49, lambda request: "1"),
        (False, 200, lambda request: "1"),
    ]:
        traces = ask(numbered(count), engine=lambda a=answer: Scripted(a), canary=canary)
        assert len(traces) == count
        (tmp_path / "journal.jsonl").unlink()


def test_failed_requests_are_told(ask: Asked) -> None:
    engine = Scripted(lambda request: "")
    engine.finish = lambda request: "error" if request.messages[0]["content"] < "p3" else "stop"
    events: list[Progress] = []
    ask(numbered(8), engine=lambda: engine, events=events)
    assert (events[-1].failed, events[-1].samples, events[-1].total) == (3, 5, 8)


def test_a_new_journal_survives_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folders' entries are synced when it is created, else only its content would be."""
    synced: list[str] = []
    fsync = os.fsync

    def noting(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noting)
    path = tmp_path / "run" / "generate" / "journal.jsonl"
    with Journal(path):
        assert {str(path.parent), str(path.parent.parent), str(tmp_path)} <= set(synced)
        synced.clear()
    with Journal(path):
        assert str(path.parent) not in synced


def test_an_engine_that_dies_is_opened_again(ask: Asked, tmp_path: Path) -> None:
    engines: list[Scripted] = []

    class Dying(Scripted):
        def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
            for number, response in enumerate(super().stream(requests)):
                yield response
                if number == 5:
                    raise EngineDiedError("out of memory")

    def opened() -> Engine:
        engines.append(Dying(lambda request: "1"))
        return engines[-1]

    traces = ask(numbered(20), engine=opened)
    assert len(traces) == len({trace.id for trace in traces}) == 20
    assert len(engines) > 2
    ids = [row["id"] for row, _ in journals.read(tmp_path / "journal.jsonl")]
    assert len(ids) == len(set(ids)) == 20


def test_a_sample_that_waits_for_its_budget_outlives_the_engine(ask: Asked) -> None:
    class Dying(Scripted):
        """Dies while one request is out and the next waits for what that one leaves."""

        def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
            taken = [next(iter(requests)), next(iter(requests))]
            assert [request is None for request in taken] == [False, True]
            raise EngineDiedError("out of memory")
            yield None

    engines = iter([Dying(str), Scripted(lambda request: "1", at_once=1)])
    budget = Budget(tokens=700)  # 502 are set aside for a request that then takes 100
    options = {"max_tokens": 500, "budget": budget}
    assert len(ask(numbered(2), engine=lambda: next(engines), **options)) == 2


def test_an_engine_that_dies_at_once_is_not_opened_for_ever(ask: Asked) -> None:
    class Dead(Scripted):
        def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
            next(iter(requests))
            raise EngineDiedError("no device")
            yield None

    with pytest.raises(ValueError, match="died 3 times without an answer: no device"):
        ask(numbered(3), engine=lambda: Dead(str))
