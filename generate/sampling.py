"""Sample traces: what the journal holds is reused, what it lacks is requested from the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from generate.budget import BudgetReachedError, BudgetTracker
from generate.job import SamplingJob, masked_digest, prompt_mask
from generate.ledger import INDEXED, Ledger, Spent, read_ledger
from generate.redact import restore_trace
from generate.rows import as_trace, read_row
from generate.sampler import Sampler
from generate.verdicts import BackgroundVerifier, forget_lost, read_verdicts
from tracestill.records import Journal, OnProgress, Problem, Table, Trace
from tracestill.records import journal as journals
from tracestill.records.verifier import Verifier


def sample(
    problems: Sequence[Problem], job: SamplingJob, on_progress: OnProgress
) -> Iterator[Trace]:
    """Request what is missing (`sample_missing`), then read all traces (`read_traces`)."""
    ledger = sample_missing(problems, job, on_progress)
    return read_traces(problems, job, ledger)


def sample_missing(
    problems: Sequence[Problem], job: SamplingJob, on_progress: OnProgress
) -> Ledger:
    """Request what the job's rule wants and its journal lacks; return what there is then.

    Every response is in the journal before anything reads it. The journal of an earlier run,
    finished or killed, is resumed, and the engine is opened only if something is missing. Truncated
    responses are continued where max_tokens was raised and the engine can, else sampled anew. An
    engine that dies is opened again. First samples of all problems come first, so that a run that
    is stopped early has something of each.

    Raises:
        BudgetReachedError: the budget is spent.
        ValueError: nearly none of the first traces can be used, the journal holds a damaged line,
            or the engine can't be opened or keeps dying.
        OSError: the journal can't be written; what it holds stays good.

    """
    journals.repair(job.journal)
    if job.verifier is not None:
        journals.repair(job.verdicts)
    ledger, before = open_ledger(problems, job)
    budget = BudgetTracker(job.budget, job.prices, before)
    with contextlib.ExitStack() as stack:
        sampler = Sampler(
            problems,
            job,
            ledger,
            budget=budget,
            journal=stack.enter_context(Journal(job.journal, INDEXED)),
            file=stack.enter_context(job.journal.open("rb")),
            verifier=stack.enter_context(
                BackgroundVerifier(
                    job.verifier, job.verdicts, job.read_by, needs_reasoning=job.needs_reasoning
                )
            )
            if job.verifier is not None
            else None,
            on_progress=on_progress,
        )
        sampler.run()
    ledger.cut_short = budget.reached and ledger.finished < len(ledger.rows)
    if ledger.cut_short and job.budget.then == "stop":
        raise BudgetReachedError(
            f"the budget is reached ({budget.report()}): {ledger.finished:,} of "
            f"{len(ledger.rows):,} problems have all their samples, "
            f"{len(ledger.rows) - ledger.finished:,} lack at least {ledger.missing().sum():,} "
            "samples. All responses are kept: raise generate.budget and run again, or set "
            "generate.budget.then=go_on to continue with what there is"
        )
    return ledger


def open_ledger(problems: Sequence[Problem], job: SamplingJob) -> tuple[Ledger, Spent]:
    """What the job's journal holds of these problems, verdicts included, and what it has cost.

    Raises:
        ValueError: a journal holds a damaged line.

    """
    ledger, spent = read_ledger(
        job.journal,
        problems.column("id") if isinstance(problems, Table) else [p.id for p in problems],
        job.rule,
        teacher=job.identity,
        max_tokens=job.teacher.sampling.max_tokens,
        judging=job.verifier is not None,
        mixed=job.budget.is_capped,
        sent=masked_digest(problems, job),
    )
    if job.verifier is not None:
        _record_verdicts(ledger, job, job.verifier)
    for row in range(len(ledger.rows)):
        ledger.refresh(row)
    return ledger, spent


def _record_verdicts(ledger: Ledger, job: SamplingJob, verifier: Verifier) -> None:
    end = job.journal.stat().st_size if job.journal.exists() else 0
    lost = False
    for judged in read_verdicts(job.verdicts, verifier.names, job.read_by):
        lost |= judged.offset >= end
        row = ledger.rows.get(judged.problem_id)
        if row is not None and ledger.offset(row, judged.sample) == judged.offset:
            correct = judged.correct(job.max_kept_tokens)
            ledger.record_verdict(row, judged.sample, correct=correct)
    if lost:
        forget_lost(job.verdicts, end)


def read_traces(problems: Sequence[Problem], job: SamplingJob, ledger: Ledger) -> Iterator[Trace]:
    """The traces that the job wants, by sample and problem, failed ones included. What was masked
    in them is restored where `redact.restore` says so.
    """
    mask = prompt_mask(job) if job.redact is not None and job.redact.restore else None
    with job.journal.open("rb") as file:
        for row, _, offset in ledger.responses():
            trace = as_trace(read_row(file, offset), job.solutions)
            if mask is not None:
                trace = restore_trace(trace, mask(problems[row]).originals)
            yield trace
