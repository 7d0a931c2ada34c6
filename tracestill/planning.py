"""What sampling a recipe's teacher will take: from a pilot of a few problems, or an earlier run."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.recipe import Recipe
from tracestill.records import Problem, Table, open_table
from tracestill.sampling import asking_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from generate.asking import Asking
    from generate.config import Budget

Progress = Callable[[dict[str, Any]], None]
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """What was spent, and what is still to come: the estimate and its 95% interval."""

    spent: float
    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Of `problems`, `sampled` have all that was asked for; the others are estimated by them.

    `tokens` are those of prompts and completions, `money` is in the currency of the recipe's
    prices, `hours` are at the rate so far (a pilot has fewer requests in flight than the run will
    have, so it is a bound from above), `disk` is in bytes, journal and tables together.
    `verified` is the share of the sampled problems with a correct trace, where sampling verifies.
    """

    problems: int
    sampled: int
    tokens: Amount
    money: Amount
    hours: Amount
    disk: Amount
    verified: float | None
    budget: Budget


def pilot(recipe: Recipe, run: Path, count: int, progress: Progress) -> None:
    """Sample up to `count` problems of a run, drawn at random, into the run's own journal: what
    they cost is not paid again by the run.

    Raises:
        ValueError: see `generate.run.ask`.

    """
    from generate.run import ask

    problems: Table[Problem] = open_table(run / "problems", "train", Problem)
    rows = random.Random(recipe.seed).sample(range(len(problems)), min(count, len(problems)))
    ask([problems[row] for row in sorted(rows)], asking_of(recipe, run), progress)


def estimate(recipe: Recipe, run: Path, source: Path) -> Plan:
    """What is still to come in `run`, by the problems that are sampled in `source` (the same run,
    or an earlier one of the same kind).

    Raises:
        ValueError: nothing is sampled there, or `run` has no problems.

    """
    import numpy as np

    from generate.asking import what_is_sent
    from generate.ledger import HEADS, UNANSWERED, read_ledger
    from tracestill.records import journal as journals

    problems: Table[Problem] = open_table(run / "problems", "train", Problem)
    asking = asking_of(recipe, run)
    ids = list(problems.column("id"))
    ledger, spent = read_ledger(
        asking.journal,
        ids,
        asking.rule,
        teacher=asking.identity,
        max_tokens=asking.teacher.sampling.max_tokens,
        judging=False,
        sent=what_is_sent(problems, asking),
    )
    journal = source / "generate" / "journal.jsonl"
    costs: dict[str, list[float]] = {}
    rows = 0
    for (_, problem, _, finish, _, tokens, paid, *_), _ in journals.read_heads(journal, HEADS):
        rows += 1
        if finish not in UNANSWERED:
            sums = costs.setdefault(problem, [0.0, 0.0, 0.0])
            sums[0] += tokens or 0
            sums[1] += paid or 0.0
            sums[2] += 1
    if not costs:
        raise ValueError(f"{source} has no sampled traces to go by: run the pilot there first")
    per_problem = np.array(list(costs.values()))
    # A problem counts as sampled where its journal has something of it: pilots and runs alike
    # ask for all of a problem before they end.
    left = sum(ledger.offset(row, 0) is None for row in range(len(ids)))
    rate = spent if source == run else _spent(journal)
    seconds_per_token = rate.hours * 3600 / rate.tokens if rate.tokens else 0.0
    bytes_per_trace = 1.5 * journal.stat().st_size / rows  # the tables are compressed
    size = asking.journal.stat().st_size if asking.journal.exists() else 0
    tokens = _amount(per_problem[:, 0], left, spent.tokens)
    return Plan(
        problems=len(ids),
        sampled=len(ids) - left,
        tokens=tokens,
        money=_amount(per_problem[:, 1], left, spent.money),
        hours=Amount(
            spent=spent.hours,
            estimate=tokens.estimate * seconds_per_token / 3600,
            low=tokens.low * seconds_per_token / 3600,
            high=tokens.high * seconds_per_token / 3600,
        ),
        disk=_amount(per_problem[:, 2] * bytes_per_trace, left, size),
        verified=_verified(asking),
        budget=asking.budget,
    )


def _spent(journal: Path) -> Any:
    from generate.ledger import read_ledger
    from generate.stopping import fixed

    return read_ledger(journal, (), fixed(1), teacher="", max_tokens=1, judging=False)[1]


def _amount(per_problem: npt.NDArray[np.float64], left: int, spent: float) -> Amount:
    """The total for the problems left: the mean of those sampled, with the interval of the means
    of as many drawn from them with replacement (Efron's percentile bootstrap, 1979). Of a few
    problems it tells too little of rare, long ones.
    """
    import numpy as np

    draws = np.random.default_rng(0).integers(0, len(per_problem), (_RESAMPLES, len(per_problem)))
    means = per_problem[draws].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(per_problem.mean())
    return Amount(spent=spent, estimate=mean * left, low=float(low) * left, high=float(high) * left)


def _verified(asking: Asking) -> float | None:
    from generate.verdicts import read_verdicts

    if asking.verifier is None:
        return None
    solved: dict[str, bool] = {}
    for problem, _, _, verdict in read_verdicts(asking.verdicts, asking.verifier.names):
        solved[problem] = solved.get(problem, False) or verdict.outcome == "correct"
    return sum(solved.values()) / len(solved) if solved else None
