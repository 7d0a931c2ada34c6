"""Sample traces: what is in the journal is reused, what is not is asked of the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from generate.asking import Asking, masking, what_is_sent
from generate.ledger import HEADS, Ledger, read_ledger
from generate.redact import restore_trace
from generate.rows import as_trace, read_row
from generate.sampler import Progress, Sampler
from generate.spending import BudgetReachedError, Purse
from generate.verdicts import Judging, Verifier, forget_lost, read_verdicts
from tracestill.records import Journal, Problem, Table, Trace
from tracestill.records import journal as journals


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
        run = Sampler(
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
            trace = as_trace(read_row(file, offset))
            if mask is not None:
                trace = restore_trace(trace, mask(problems[row]).originals)
            yield trace
