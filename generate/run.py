"""Sample traces: what is in the journal is reused, what is not is asked of the engine."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from generate.config import Budget, Prices
from generate.engine import Engine, EngineDiedError, Partial, Request, Response
from generate.ledger import HEADS, UNANSWERED, Ledger, read_ledger
from generate.reasoning import split_reasoning
from generate.redact import Masked, redactor, restore_trace
from generate.spending import BudgetReachedError, Purse
from generate.stopping import Rule
from generate.verdicts import Entry, Judging, Verifier, forget_lost, read_verdicts
from tracestill.records import Journal, Problem, Table, Teacher, Trace, digest, from_row, trace_id
from tracestill.records import journal as journals
from tracestill.records.models import Redact

Progress = Callable[[dict[str, Any]], None]

_DEATHS = 3  # of an engine in a row that has answered nothing
_BACKLOG = 1024  # answers that wait to be judged, beyond which nothing more is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who is asked for what, and where the responses go.

    `journal` is the file for responses; verdicts go beside it. `budget` holds for all that the
    journal's responses cost, those of earlier runs included. What `redact` finds is masked before
    it is sent; answers are judged with the originals.
    """

    teacher: Teacher
    open_engine: Callable[[], Engine]
    rule: Rule
    journal: Path
    seed: int
    system_prompt: str | None = None
    prices: Prices = field(default_factory=Prices)
    budget: Budget = field(default_factory=Budget)
    verifier: Verifier | None = None
    redact: Redact | None = None

    @property
    def identity(self) -> str:
        """The teacher's fingerprint, which is part of its traces' ids."""
        return teacher_fingerprint(self.teacher, self.system_prompt)

    @property
    def verdicts(self) -> Path:
        """The file for verdicts."""
        return self.journal.with_name(f"verdicts.{self.journal.name}")


def teacher_fingerprint(teacher: Teacher, system_prompt: str | None) -> str:
    """Who a trace is of: the teacher and its way of sampling, but not its token budget, nor where
    it runs, and not the version of its engine.
    """
    values = asdict(teacher)
    values["sampling"].pop("max_tokens")
    values.pop("engine_version")
    values["provider"] = "local"  # wherever it runs; journals that say so are found again
    values.pop("model")  # a folder that was moved is the same model: `content` tells
    return digest("teacher", values, system_prompt)


def sample_seed(seed: int, trace: str) -> int:
    """The seed of one sample, from the recipe's and the trace's identity."""
    return int(digest("seed", seed, trace)[:8], 16) % 2**31


def sample(problems: Sequence[Problem], asking: Asking, progress: Progress) -> Iterator[Trace]:
    """Ask for what is missing (`ask`), then read all traces (`read_traces`)."""
    ledger = ask(problems, asking, progress)
    return read_traces(problems, asking, ledger)


def ask(problems: Sequence[Problem], asking: Asking, progress: Progress) -> Ledger:
    """Ask the engine for what the rule wants and the journal lacks; what there is then.

    Every response is in the journal before anything reads it. A journal of an earlier run, ended
    or killed, is gone on with, and the engine is opened only if something is lacking. Truncated
    responses are gone on with where the budget of tokens was raised and the engine can. An engine
    that dies is opened again. First samples of all problems come first, so that a run that is
    stopped early has something of every problem.

    Raises:
        BudgetReachedError: the budget is spent.
        ValueError: the journal holds a damaged line, or the engine can't be opened or keeps dying.
        OSError: the journal can't be written; what it holds stays good.

    """
    journals.repair(asking.journal)
    ledger, before = read_ledger(
        asking.journal,
        problems.column("id") if isinstance(problems, Table) else [p.id for p in problems],
        asking.rule,
        teacher=asking.identity,
        max_tokens=asking.teacher.sampling.max_tokens,
        judging=asking.verifier is not None,
        sent=what_is_sent(problems, asking),
    )
    if asking.verifier is not None:
        journals.repair(asking.verdicts)
        _take_verdicts(ledger, asking, asking.verifier)
    for row in range(len(ledger.rows)):
        ledger.refresh(row)
    with contextlib.ExitStack() as stack:
        run = _Run(
            problems,
            asking,
            ledger,
            purse=Purse(asking.budget, asking.prices, before),
            journal=stack.enter_context(Journal(asking.journal, HEADS)),
            file=stack.enter_context(asking.journal.open("rb")),
            judging=stack.enter_context(Judging(asking.verifier, asking.verdicts))
            if asking.verifier is not None
            else None,
            progress=progress,
        )
        run.go()
    if run.out_of_budget and asking.budget.then == "stop":
        problems_short, samples = ledger.lacking()
        raise BudgetReachedError(
            f"the budget is reached ({run.purse.report()}): {ledger.finished:,} of "
            f"{len(ledger.rows):,} problems have what was asked for, {problems_short:,} lack at "
            f"least {samples:,} samples. All responses are kept: raise generate.budget and run "
            "again, or set generate.budget.then=go_on to go on with what there is"
        )
    return ledger


def masking(asking: Asking) -> Callable[[Problem], Masked] | None:
    """What masks the system prompt and a problem's prompt, in this order; None: nothing does."""
    if asking.redact is None:
        return None
    mask = redactor(asking.redact)
    return lambda problem: mask(asking.system_prompt or "", problem.prompt)


def what_is_sent(problems: Sequence[Problem], asking: Asking) -> Callable[[int], str | None]:
    """What today's masking makes of a problem's prompt (see `Masked.sent`), by its row."""
    mask = masking(asking)
    if mask is None:
        return lambda row: None
    return functools.lru_cache(maxsize=1024)(lambda row: mask(problems[row]).sent)


def _take_verdicts(ledger: Ledger, asking: Asking, verifier: Verifier) -> None:
    end = asking.journal.stat().st_size if asking.journal.exists() else 0
    lost = False
    for problem, sample, offset, verdict in read_verdicts(asking.verdicts, verifier.names):
        lost |= offset >= end
        row = ledger.rows.get(problem)
        if row is not None and ledger.offset(row, sample) == offset:
            ledger.judge(row, sample, correct=verdict.outcome == "correct")
    if lost:
        forget_lost(asking.verdicts, end)


def read_traces(problems: Sequence[Problem], asking: Asking, ledger: Ledger) -> Iterator[Trace]:
    """The traces that were asked for, by sample and problem; failed ones too. What was masked in
    them is restored where `redact.restore` says so.
    """
    mask = masking(asking) if asking.redact is not None and asking.redact.restore else None
    with asking.journal.open("rb") as file:
        for row, _, offset in ledger.responses():
            trace = _trace(_read_row(file, offset))
            if mask is not None:
                trace = restore_trace(trace, mask(problems[row]).originals)
            yield trace


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flight:
    """A request that is out; `paid` is what its beginning has cost, if it goes on with one,
    `sent` tells what was masked in it.
    """

    row: int
    sample: int
    problem: Problem
    paid: float
    sent: str | None


class _Run:
    """What changes while a run asks."""

    def __init__(
        self,
        problems: Sequence[Problem],
        asking: Asking,
        ledger: Ledger,
        *,
        purse: Purse,
        journal: Journal,
        file: BinaryIO,
        judging: Judging | None,
        progress: Progress,
    ) -> None:
        self.problems = problems
        self.asking = asking
        self.ledger = ledger
        self.purse = purse
        self.journal = journal
        self.file = file
        self.judging = judging
        self.out_of_budget = False
        self._progress = progress
        self._identity = asking.identity
        self._teacher = asdict(asking.teacher)
        self._mask = masking(asking)
        self._in_flight: dict[str, _Flight] = {}
        self._unjudged = iter(list(ledger.unjudged()) if asking.verifier else ())
        self._reused = ledger.samples
        self._asked = 0
        self._begin = time.monotonic()

    def go(self) -> None:
        """Ask until nothing is lacking that can be had."""
        self.report()
        self._judge_what_is_there()
        deaths = 0
        while self.ledger.wanting():
            answered, self._asked = self._asked, 0
            engine = self.asking.open_engine()
            try:
                for response in engine.stream(self._requests(engine)):
                    if response is not None:
                        self._receive(response, engine)
                    self._collect()
                break
            except EngineDiedError as error:
                deaths = 0 if self._asked else deaths + 1
                if deaths == _DEATHS:
                    raise ValueError(
                        f"the engine died {deaths} times without an answer: {error}"
                    ) from error
                self._recall()
            finally:
                self._asked += answered
                engine.close()
        self.report()

    def _judge_what_is_there(self) -> None:
        """Judge the responses of earlier runs that have no verdict of today's verifiers."""
        while self.judging is not None:
            self._feed()
            if not self.judging.waiting:
                return
            self._collect()
            time.sleep(0.002)

    def _feed(self) -> None:
        assert self.judging is not None
        while self.judging.waiting < _BACKLOG:
            found = next(self._unjudged, None)
            if found is None:
                return
            row, sample, offset = found
            problem = self.problems[row]
            self._judge(row, sample, offset, problem, _trace(_read_row(self.file, offset)))

    def _judge(self, row: int, sample: int, offset: int, problem: Problem, trace: Trace) -> None:
        assert self.judging is not None
        if self._mask is not None:
            trace = restore_trace(trace, self._mask(problem).originals)
        self.judging.add(Entry(row=row, sample=sample, offset=offset, problem=problem, trace=trace))

    def _collect(self) -> None:
        if self.judging is None:
            return
        touched = False
        for entry, verdict in self.judging.collect():
            self.ledger.judge(entry.row, entry.sample, correct=verdict.outcome == "correct")
            self.ledger.refresh(entry.row)
            touched = True
        if touched:
            self.report()

    def _requests(self, engine: Engine) -> Iterator[Request | None]:
        """What to ask, as the engine takes it; None while it hangs on answers that are out."""
        while True:
            rows = self.ledger.wanting()
            if not rows:
                if not self._in_flight and not (self.judging and self.judging.waiting):
                    return
                yield None
                continue
            for row in rows:
                while self.judging is not None and self.judging.waiting >= _BACKLOG:
                    yield None
                taken = self.ledger.take(row)
                if taken is None:  # what it lacked has come meanwhile
                    continue
                request, flight = self._request(row, *taken, engine)
                self._in_flight[request.id] = flight  # also while it waits for others to be paid
                while not self._set_aside(request):
                    if len(self._in_flight) == 1:
                        self._recall()
                        self.out_of_budget = True
                        yield from self._until_judged()
                        return
                    yield None
                yield request

    def _until_judged(self) -> Iterator[None]:
        while self.judging is not None and self.judging.waiting:
            yield None

    def _set_aside(self, request: Request) -> bool:
        prompt = sum(len(message["content"].encode()) for message in request.messages)
        begun = request.continues.completion_tokens if request.continues else 0
        longest = self.asking.teacher.sampling.max_tokens
        return self.purse.set_aside(request.id, prompt + begun, longest - begun)

    def _request(
        self, row: int, sample: int, offset: int | None, engine: Engine
    ) -> tuple[Request, _Flight]:
        asking, problem = self.asking, self.problems[row]
        identity = trace_id(problem.id, self._identity, sample)
        before = _read_row(self.file, offset) if offset is not None else None
        begun = None
        if before is not None and engine.continues:
            begun = Partial(
                raw_reasoning=before.get("raw_reasoning"),
                token_ids=before["token_ids"],
                completion_tokens=before["completion_tokens"],
            )
        system, prompt, sent = asking.system_prompt or "", problem.prompt, None
        if self._mask is not None:
            masked = self._mask(problem)
            (system, prompt), sent = masked.texts, masked.sent
        messages = [{"role": "user", "content": prompt}]
        if system:
            messages.insert(0, {"role": "system", "content": system})
        seed = sample_seed(asking.seed, identity)
        request = Request(id=identity, messages=messages, seed=seed, continues=begun)
        paid = before["cost"] if before is not None else 0.0
        return request, _Flight(row=row, sample=sample, problem=problem, paid=paid, sent=sent)

    def _receive(self, response: Response, engine: Engine) -> None:
        flight = self._in_flight.pop(response.id)
        row, sample, problem = flight.row, flight.sample, flight.problem
        paid = self.purse.pay(response)
        values = _values(response) | {
            "problem_id": problem.id,
            "sample": sample,
            "max_tokens": self.asking.teacher.sampling.max_tokens,
            "sent": flight.sent,
            "spent": response.prompt_tokens + response.new_tokens,
            "paid": paid,
            "cost": paid + flight.paid,
            "elapsed": round(self.purse.seconds, 1),
            "teacher": self._teacher | {"engine_version": engine.version},
        }
        offset = self.journal.append(values)
        failed = response.finish in UNANSWERED
        self.ledger.put(row, sample, offset, failed=failed, cut=False)
        if not failed:  # a failed one stays away in this run
            self.ledger.give_back(row, sample)
        if self.judging is not None and not failed:
            self._judge(row, sample, offset, problem, _trace(values))
        self.ledger.refresh(row)
        self._asked += 1
        self.report()

    def _recall(self) -> None:
        """What is in flight and will not be answered can be asked for again."""
        for flight in self._in_flight.values():
            self.ledger.give_back(flight.row, flight.sample)
            self.ledger.refresh(flight.row)
        self._in_flight.clear()
        self.purse.put_back()

    def report(self) -> None:
        """Tell how far the run is."""
        ledger, purse, judged = self.ledger, self.purse, self.asking.verifier is not None
        problems = len(ledger.rows)
        seconds = max(1e-9, time.monotonic() - self._begin)
        self._progress(
            {
                "done": ledger.finished if judged else ledger.samples,
                "total": problems if judged else problems * self.asking.rule.max,
                "reused": self._reused,
                "samples": ledger.samples,
                "verified": ledger.correct if judged else None,
                "tokens": purse.tokens,
                "tokens_per_second": purse.tokens / seconds,
                "tokens_per_verified": purse.spent.tokens / ledger.correct
                if judged and ledger.correct
                else None,
                "cost": purse.spent.money,
            }
        )


def _values(response: Response) -> dict[str, Any]:
    """A response as a row; unlike `asdict`, without a copy of its token ids."""
    return {name: getattr(response, name) for name in Response.__dataclass_fields__}


def _read_row(file: BinaryIO, offset: int) -> dict[str, Any]:
    file.seek(offset)
    row: dict[str, Any] = json.loads(file.readline())
    return row


def _trace(row: dict[str, Any]) -> Trace:
    read = split_reasoning(
        row["raw"],
        row["prefill"],
        raw_reasoning=row.get("raw_reasoning"),
        closed_at=row.get("closed_at"),
    )
    return Trace(
        id=row["id"],
        problem_id=row["problem_id"],
        sample=row["sample"],
        raw=row["raw"],
        raw_reasoning=row.get("raw_reasoning"),
        raw_token_ids=row["token_ids"],
        reasoning=read.reasoning,
        answer=read.answer,
        finish=row["finish"],
        error=row["error"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        teacher=from_row(Teacher, row["teacher"]),
        seconds=row["seconds"],
        cost=row["cost"],
    )
