"""What sampling a recipe's teacher will take: from a pilot of a few problems, or an earlier run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.loading import recipe_of_run
from tracestill.recipe.schema import Recipe
from tracestill.records import Problem, Table, open_table
from tracestill.records.content import model_name
from tracestill.stages.generate import job_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from generate.job import SamplingJob
    from generate.ledger import Spent
    from tracestill.recipe.loading import recipe_of_run
from tracestill.recipe.generate import Budget

_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """What was spent, and what is still to come: the estimate and its 95% interval."""

    spent: float
    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """Of `problems`, `sampled` have all their samples. What the others lack is estimated by the
    samples of `by` problems.

    `tokens` are those of prompts and completions, `money` is in the currency of the recipe's
    prices, `hours` are at the rate so far (a pilot has fewer requests in flight than the run will
    have, so it is an upper bound), `disk` is in bytes, journal and tables together. `verified` is
    the share of the sampled problems with a correct trace, where sampling verifies. `notes` are
    what else to know.
    """

    problems: int
    sampled: int
    by: int
    tokens: Amount
    money: Amount
    hours: Amount
    disk: Amount
    verified: float | None
    budget: Budget
    notes: list[str]


def estimate(recipe: Recipe, run: Path, source: Path) -> SamplingPlan:
    """What is still to come in `run`, by the samples in `source` (the same run, or an earlier one).

    Raises:
        ValueError: nothing is sampled there, or `run` has no problems.

    """
    import numpy as np

    from generate.sampling import open_ledger

    problems: Table[Problem] = open_table(run / "problems", "train", Problem)
    job = job_of(recipe, run)
    ledger, spent = open_ledger(problems, job)
    journal = source / "generate" / "journal.jsonl"
    costs, rows = _costs(journal)
    if not costs:
        raise ValueError(f"{source} has no sampled traces to go by: run the pilot there first")
    by_problem = np.array(list(costs.values()))
    left = ledger.missing()
    counts = [ledger.counts(row) for row in range(len(ledger.rows))]
    if job.verifier is not None:  # the rule may want more than it says before there are verdicts
        have = np.array([count.samples for count in counts])
        unfinished = np.array([not count.finished for count in counts])
        usual = by_problem[:, 2].mean()
        left = np.maximum(left, np.where(unfinished, usual - have, 0))
    left_total = float(left.sum())
    rate = spent if source == run else _spent(journal)
    seconds_per_token = rate.hours * 3600 / rate.tokens if rate.tokens else 0.0
    bytes_per_trace = 1.5 * journal.stat().st_size / rows  # the tables are compressed
    size = job.journal.stat().st_size if job.journal.exists() else 0
    tokens = _amount(by_problem[:, 0], by_problem[:, 2], left_total, spent.tokens)
    sampled = [count for count in counts if count.finished]
    return SamplingPlan(
        problems=len(counts),
        sampled=len(sampled),
        by=len(costs),
        tokens=tokens,
        money=_amount(by_problem[:, 1], by_problem[:, 2], left_total, spent.money),
        hours=Amount(
            spent=spent.hours,
            estimate=tokens.estimate * seconds_per_token / 3600,
            low=tokens.low * seconds_per_token / 3600,
            high=tokens.high * seconds_per_token / 3600,
        ),
        disk=Amount(
            spent=size,
            estimate=left_total * bytes_per_trace,
            low=left_total * bytes_per_trace,
            high=left_total * bytes_per_trace,
        ),
        verified=sum(count.correct > 0 for count in sampled) / len(sampled)
        if sampled and job.verifier is not None
        else None,
        budget=job.budget,
        notes=[] if source == run else _differences(job, source),
    )


def _costs(journal: Path) -> tuple[dict[str, list[float]], int]:
    """Of each problem in a journal the tokens, the money and the number of its answered samples,
    and how many rows the journal has.
    """
    from generate.ledger import INDEXED, UNANSWERED
    from tracestill.records import journal as journals

    costs: dict[str, list[float]] = {}
    seen: set[str] = set()
    rows = 0
    for values, _ in journals.read_heads(journal, INDEXED):
        head = dict(zip(INDEXED, values, strict=True))
        rows += 1
        if head["finish"] in UNANSWERED:
            continue
        sums = costs.setdefault(head["problem_id"], [0.0, 0.0, 0.0])
        sums[0] += head["spent"] or 0
        sums[1] += head["paid"] or 0.0
        sums[2] += head["id"] not in seen  # a continued trace has several rows
        seen.add(head["id"])
    return costs, rows


def _differences(job: SamplingJob, source: Path) -> list[str]:
    """What an estimate by another run does not know of this one."""
    theirs = recipe_of_run(source)
    if isinstance(theirs.generate, ImportTeacher):
        raise ValueError(f"{source} imported its traces: it does not tell what sampling takes")
    try:
        same = job_of(theirs, source).identity == job.identity
    except ValueError:  # its model's folder is gone
        same = False
    if same:
        return []
    return [
        f"{source} sampled {model_name(theirs.generate.model)}, this recipe samples "
        f"{job.teacher.model}, or with other settings: lengths and speed are those of that run"
    ]


def _spent(journal: Path) -> Spent:
    from generate.ledger import read_ledger
    from generate.stopping import fixed

    return read_ledger(journal, (), fixed(1), teacher="", max_tokens=1, judging=False)[1]


def _amount(
    costs: npt.NDArray[np.float64], samples: npt.NDArray[np.float64], left: float, spent: float
) -> Amount:
    """What `left` more samples take: at the mean of a sample, with the interval of the means of as
    many problems drawn with replacement (Efron's percentile bootstrap, 1979). Of a few problems it
    tells too little of rare, long ones.

    Args:
        costs: of each problem, shape (problems,).
        samples: how many each has, same shape.
        left: samples still to come.
        spent: what was spent so far.

    """
    import numpy as np

    draws = np.random.default_rng(0).integers(0, len(costs), (_RESAMPLES, len(costs)))
    means = costs[draws].sum(axis=1) / samples[draws].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(costs.sum() / samples.sum())
    return Amount(spent=spent, estimate=mean * left, low=float(low) * left, high=float(high) * left)
