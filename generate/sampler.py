"""The loop that requests samples, journals responses, has them judged, and decides what is next."""

from __future__ import annotations

import functools
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from generate.budget import BudgetTracker
from generate.canary import TRACES, Canary
from generate.engine import Engine, EngineDiedError, Partial, Request, Response, failed_response
from generate.job import SamplingJob, prompt_mask, sample_seed
from generate.ledger import UNANSWERED, Ledger
from generate.redact import restore_trace
from generate.rows import as_trace, read_row, response_row
from generate.verdicts import BackgroundVerifier, PendingTrace
from tracestill.records import Journal, OnProgress, Problem, Progress, Trace, trace_id

_DEATHS = 3  # of an engine in a row that has answered nothing
_BACKLOG = 1024  # traces that wait to be judged, beyond which nothing more is requested


@dataclass(frozen=True, slots=True, kw_only=True)
class _InFlight:
    """A request that is out. `paid` is what the truncated answer that it continues has cost, `sent`
    the digest of its masked prompt.
    """

    row: int
    sample: int
    problem: Problem
    paid: float
    sent: str | None


class Sampler:
    """The state of a run that samples."""

    def __init__(
        self,
        problems: Sequence[Problem],
        job: SamplingJob,
        ledger: Ledger,
        *,
        budget: BudgetTracker,
        journal: Journal,
        file: BinaryIO,
        verifier: BackgroundVerifier | None,
        on_progress: OnProgress,
    ) -> None:
        self.problems = problems
        self.job = job
        self.ledger = ledger
        self.budget = budget
        self.journal = journal
        self.file = file
        self.verifier = verifier
        self._on_progress = on_progress
        self._identity = job.identity
        self._teacher = asdict(job.teacher)
        self._mask = prompt_mask(job)
        resumed = ledger.held() >= TRACES  # resuming a run that the canary stopped overrules it
        self._canary = (
            Canary(job.max_kept_tokens, needs_reasoning=job.needs_reasoning)
            if job.canary and not resumed
            else None
        )
        self._in_flight: dict[str, _InFlight] = {}
        self._unjudged = iter(list(ledger.unjudged()) if verifier else ())
        self._reused = ledger.samples
        self._responses = 0
        self._failed = 0
        self._version = ""
        self._begin = time.monotonic()

    def run(self) -> None:
        """Sample until nothing is missing that can be had.

        Raises:
            ValueError: the canary is alarmed, or the engine can't be opened or keeps dying.

        """
        self.report()
        self._judge_earlier_responses()
        deaths = 0
        while self.ledger.available_rows() and not self._stopped():
            before = self._responses
            engine = self.job.open_engine()
            self._version = engine.version
            try:
                for response in engine.stream(self._requests(engine)):
                    if response is not None:
                        self._receive(response)
                    self._collect_verdicts()
                break
            except EngineDiedError as error:
                deaths = 0 if self._responses > before else deaths + 1
                if deaths == _DEATHS:
                    raise ValueError(
                        f"the engine died {deaths} times without an answer: {error}"
                    ) from error
            finally:
                engine.close()
                self._abandon_in_flight()
        self.report()
        if self._canary is not None and self._canary.alarmed:
            raise self._canary.error()

    def _stopped(self) -> bool:
        """Whether nothing more is to be requested in this run."""
        return self.budget.reached or (self._canary is not None and self._canary.alarmed)

    def _judge_earlier_responses(self) -> None:
        """Judge the responses of earlier runs that have no verdict of today's verifiers."""
        while self.verifier is not None:
            while self.verifier.pending < _BACKLOG:
                found = next(self._unjudged, None)
                if found is None:
                    break
                row, _, offset = found
                self._judge(row, offset, as_trace(read_row(self.file, offset), self.job.solutions))
            if not self.verifier.pending:
                return
            self._collect_verdicts()
            time.sleep(0.002)

    def _judge(self, row: int, offset: int, trace: Trace) -> None:
        assert self.verifier is not None
        problem = self.problems[row]
        if self._mask is not None:
            trace = restore_trace(trace, self._mask(problem).originals)
        self.verifier.add(PendingTrace(row=row, offset=offset, problem=problem, trace=trace))

    def _collect_verdicts(self) -> None:
        judged_any = False
        for pending, judged in self.verifier.collect() if self.verifier else ():
            correct = judged.correct(self.job.max_kept_tokens)
            self.ledger.record_verdict(pending.row, judged.sample, correct=correct)
            self.ledger.refresh(pending.row)
            judged_any = True
        if judged_any:
            self.report()

    def _requests(self, engine: Engine) -> Iterator[Request | None]:
        """The requests to send, as the engine takes them; None while what is next depends on
        answers or verdicts that are still to come.
        """
        while not self._stopped():
            rows = self.ledger.available_rows()
            if not rows:
                if not self._in_flight and not (self.verifier and self.verifier.pending):
                    return
                yield None
                continue
            for row in rows:
                while self.verifier is not None and self.verifier.pending >= _BACKLOG:
                    yield None
                if self._stopped():
                    break
                claimed = self.ledger.claim(row)
                if claimed is None:  # what it lacked has come meanwhile
                    continue
                request, flight = self._request(row, *claimed, engine)
                self._in_flight[request.id] = flight  # also while it waits for its reservation
                if not (yield from self._reserved(request)):
                    break
                if self._canary is not None:
                    self._canary.watch(request.id)
                yield request
        while self._in_flight or (self.verifier is not None and self.verifier.pending):
            yield None

    def _reserved(self, request: Request) -> Generator[None, None, bool]:
        """Wait until the budget covers a request; False if it never will, or the run is stopped."""
        while not self._stopped():
            if self._reserve(request):
                return True
            if len(self._in_flight) == 1:  # nothing is left to wait for
                self.budget.reached = True
                break
            yield None
        self._abandon(request.id)
        return False

    def _reserve(self, request: Request) -> bool:
        prompt = sum(len(message["content"].encode()) for message in request.messages)
        begun = request.continues.completion_tokens if request.continues else 0
        longest = self.job.teacher.sampling.max_tokens
        return self.budget.reserve(request.id, prompt + begun, longest - begun)

    def _request(
        self, row: int, sample: int, offset: int | None, engine: Engine
    ) -> tuple[Request, _InFlight]:
        job, problem = self.job, self.problems[row]
        identity = trace_id(problem.id, self._identity, sample)
        before = read_row(self.file, offset) if offset is not None else None
        begun = None
        if before is not None and engine.continues:
            begun = Partial(
                raw_reasoning=before.get("raw_reasoning"),
                token_ids=before["token_ids"],
                completion_tokens=before["completion_tokens"],
            )
        system, prompt, sent = job.system_prompt or "", problem.prompt, None
        if self._mask is not None:
            masked = self._mask(problem)
            (system, prompt), sent = masked.texts, masked.sent
        messages = [{"role": "user", "content": prompt}]
        if system:
            messages.insert(0, {"role": "system", "content": system})
        request = Request(
            id=identity,
            messages=messages,
            seed=sample_seed(job.seed, identity),
            continues=begun,
            language=problem.language if job.languages else None,
            charge_failed=functools.partial(self.budget.charge_failed, identity),
        )
        paid = before["cost"] if before is not None else 0.0
        return request, _InFlight(row=row, sample=sample, problem=problem, paid=paid, sent=sent)

    def _receive(self, response: Response) -> None:
        flight = self._in_flight.pop(response.id)
        failed = response.finish in UNANSWERED
        offset, values = self._write(response, flight)
        if not failed:  # a failed one stays unavailable in this run
            self.ledger.release(flight.row, flight.sample)
        watched = self._canary is not None and self._canary.watches(response.id)
        if watched or (self.verifier is not None and not failed):
            trace = as_trace(values, self.job.solutions)
            if self._canary is not None and watched:
                self._canary.see(trace)
            if self.verifier is not None and not failed:
                self._judge(flight.row, offset, trace)
        self.ledger.refresh(flight.row)
        self._responses += 1
        self._failed += response.finish in ("error", "skipped")
        self.report()

    def _write(self, response: Response, flight: _InFlight) -> tuple[int, dict[str, Any]]:
        """Book and journal a response; its line's offset and row."""
        cost = self.budget.settle(response)
        values = response_row(response) | {
            "problem_id": flight.problem.id,
            "sample": flight.sample,
            "max_tokens": self.job.teacher.sampling.max_tokens,
            "sent": flight.sent,
            "spent": cost.tokens,
            "paid": cost.money,
            "cost": cost.money + flight.paid,
            "elapsed": round(self.budget.seconds, 1),
            "teacher": self._teacher | {"engine_version": self._version},
        }
        offset = self.journal.append(values)
        failed = response.finish in UNANSWERED
        self.ledger.record(flight.row, flight.sample, offset, failed=failed, truncated=False)
        return offset, values

    def _abandon(self, id_: str) -> None:
        """Let a request that will not be answered be sent again. What failed attempts at it have
        cost is journaled, so that a resumed run knows.
        """
        flight = self._in_flight.pop(id_)
        if self.budget.unsettled(id_):
            why = "the engine was closed while the request was retried"
            self._write(failed_response(id_, why), flight)
        self.ledger.release(flight.row, flight.sample)
        self.ledger.refresh(flight.row)

    def _abandon_in_flight(self) -> None:
        for id_ in list(self._in_flight):
            self._abandon(id_)
        self.budget.release_all()

    def report(self) -> None:
        """Tell how far the run is."""
        ledger, budget, judged = self.ledger, self.budget, self.verifier is not None
        problems = len(ledger.rows)
        seconds = max(1e-9, time.monotonic() - self._begin)
        spent = budget.spent
        self._on_progress(
            Progress(
                done=ledger.finished if judged else ledger.samples,
                total=problems if judged else problems * self.job.rule.max,
                reused=self._reused,
                samples=ledger.samples,
                verified=ledger.correct if judged else None,
                failed=self._failed,
                tokens=budget.answered_tokens,
                tokens_per_second=budget.answered_tokens / seconds,
                tokens_per_verified=spent.tokens / ledger.correct
                if judged and ledger.correct
                else None,
                cost=spent.money,
            )
        )
