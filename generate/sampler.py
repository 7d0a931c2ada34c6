"""The loop that asks an engine, writes down what comes, has it judged, and decides what next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from generate.asking import Asking, masking, sample_seed
from generate.engine import Engine, EngineDiedError, Partial, Request, Response
from generate.ledger import UNANSWERED, Ledger
from generate.redact import restore_trace
from generate.rows import as_row, as_trace, read_row
from generate.spending import Purse
from generate.verdicts import Entry, Judging
from tracestill.records import Journal, Problem, Trace, trace_id

Progress = Callable[[dict[str, Any]], None]

_DEATHS = 3  # of an engine in a row that has answered nothing
_BACKLOG = 1024  # answers that wait to be judged, beyond which nothing more is asked for


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


class Sampler:
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
            self._judge(row, sample, offset, problem, as_trace(read_row(self.file, offset)))

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
        before = read_row(self.file, offset) if offset is not None else None
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
        request = Request(
            id=identity,
            messages=messages,
            seed=seed,
            continues=begun,
            language=problem.language if asking.languages else None,
        )
        paid = before["cost"] if before is not None else 0.0
        return request, _Flight(row=row, sample=sample, problem=problem, paid=paid, sent=sent)

    def _receive(self, response: Response, engine: Engine) -> None:
        flight = self._in_flight.pop(response.id)
        row, sample, problem = flight.row, flight.sample, flight.problem
        paid = self.purse.pay(response)
        values = as_row(response) | {
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
            self._judge(row, sample, offset, problem, as_trace(values))
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
