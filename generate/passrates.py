"""How often a teacher is right, from samples whose number depends on what they are."""

from __future__ import annotations

from collections.abc import Iterator

from generate.ledger import Ledger
from generate.stopping import pass_rate
from tracestill.records import PassRate


def pass_rates(ledger: Ledger) -> Iterator[PassRate]:
    """Each problem's samples and its unbiased pass rate (`stopping.pass_rate`), by row. The rate is
    None where the budget, or a failed request, ended sampling before the rule did.
    """
    for problem, row in ledger.rows.items():
        counts = ledger.counts(row)
        rate = pass_rate(ledger.rule, counts.samples, counts.correct) if counts.finished else None
        yield PassRate(
            problem_id=problem, samples=counts.samples, correct=counts.correct, pass_rate=rate
        )


def mean_pass_rate(ledger: Ledger) -> float | None:
    """The chance that one sample of a problem drawn at random is correct, without bias.

    It is the mean of the problems' pass rates. Where a budget cut the run short, the problems whose
    rule had ended by then are the easy ones: it is then the share of correct ones among the first
    `rule.min` samples, which do not depend on it; None where a problem lacks some of these.
    """
    if not ledger.cut_short:
        rates = [rate.pass_rate for rate in pass_rates(ledger) if rate.pass_rate is not None]
        return sum(rates) / len(rates) if rates else None
    first = [ledger.counts(row, ledger.rule.min) for row in ledger.rows.values()]
    if any(counts.samples < ledger.rule.min for counts in first):
        return None
    return sum(counts.correct for counts in first) / (ledger.rule.min * len(first))
