"""Keep a run within its budget, however long the answers turn out to be."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from generate.engine import Response, Usage
from generate.ledger import Spent
from tracestill.recipe.generate import Budget, Prices


class BudgetReachedError(ValueError):
    """The budget is spent; the message says what there is and what is missing."""


class Cost(NamedTuple):
    """Tokens of prompts and completions, and money."""

    tokens: int
    money: float


def _sum(costs: Iterable[Cost]) -> Cost:
    tokens, money = 0, 0.0
    for cost in costs:
        tokens += cost.tokens
        money += cost.money
    return Cost(tokens, money)


class BudgetTracker:
    """Books what requests cost, and reserves for each in flight the most that an attempt can cost.

    So tokens and money never exceed the budget; at the end of its hours, requests in flight are
    awaited. A prompt's tokens are unknown until it is answered: it has no more of them than bytes.
    An attempt that failed but may have been billed costs what the endpoint reports, else all that
    was reserved for it. `charge_failed` may be called from any thread.
    """

    def __init__(self, budget: Budget, prices: Prices, before: Spent) -> None:
        self._budget = budget
        self._prices = prices
        self._before = before
        self._begin: float | None = None
        self._lock = threading.Lock()
        self._reservations: dict[str, Cost] = {}
        self._failed: dict[str, Cost] = {}  # attempts of requests that are not settled yet
        self._cost = Cost(0, 0.0)
        self.answered_tokens = 0
        """Tokens of responses, prompts included, without those of failed attempts."""
        self.reached = False
        """Whether something was not sent, or not sent again, for want of budget."""

    @property
    def seconds(self) -> float:
        """Seconds of sampling, earlier runs included."""
        running = 0.0 if self._begin is None else time.monotonic() - self._begin
        return self._before.hours * 3600 + running

    @property
    def spent(self) -> Spent:
        """All that was spent, earlier runs included."""
        return Spent(
            tokens=self._before.tokens + self._cost.tokens,
            money=self._before.money + self._cost.money,
            hours=self.seconds / 3600,
        )

    def reserve(self, request: str, prompt: int, completion: int) -> bool:
        """Reserve what an attempt at a request costs at most, if the budget covers it: its prompt
        (in bytes) and its longest completion (in tokens).
        """
        if self._begin is None:  # now the engine is loaded
            self._begin = time.monotonic()
        cost = self._priced(Usage(prompt_tokens=prompt, completion_tokens=completion))
        with self._lock:
            out_of_time = self._budget.hours is not None and self.spent.hours >= self._budget.hours
            if out_of_time or self._exceeded_with(cost):
                return False
            self._reservations[request] = cost
        return True

    def _priced(self, usage: Usage) -> Cost:
        prompt, completion, money = usage.prompt_tokens, usage.completion_tokens, usage.cost
        if money is None:
            money = (self._prices.prompt * prompt + self._prices.completion * completion) / 1e6
        return Cost(prompt + completion, money)

    def _exceeded_with(self, *more: Cost) -> bool:
        limits, spent = self._budget, self.spent
        if limits.tokens is None and limits.money is None:
            return False
        total = _sum([Cost(spent.tokens, spent.money), *self._reservations.values(), *more])
        return (limits.tokens is not None and total.tokens > limits.tokens) or (
            limits.money is not None and total.money > limits.money
        )

    def charge_failed(self, request: str, usage: Usage | None) -> bool:
        """Book an attempt that brought no answer: its reported usage, else all that was reserved
        for it. The reservation stays for the next attempt; False where the budget covers none.
        """
        with self._lock:
            cost = self._reservations[request] if usage is None else self._priced(usage)
            self._failed[request] = _sum([self._failed.get(request, Cost(0, 0.0)), cost])
            self._cost = _sum([self._cost, cost])
            covered = not self._exceeded_with()
            self.reached |= not covered
        return covered

    def settle(self, response: Response) -> Cost:
        """Book a response and free its reservation; what it cost, failed attempts included."""
        usage = Usage(
            prompt_tokens=response.prompt_tokens,
            completion_tokens=response.new_tokens,
            cost=response.cost,
        )
        cost = self._priced(usage)
        with self._lock:
            self._reservations.pop(response.id, None)
            self._cost = _sum([self._cost, cost])
            self.answered_tokens += cost.tokens
            return _sum([cost, self._failed.pop(response.id, Cost(0, 0.0))])

    def unsettled(self, request: str) -> bool:
        """Whether failed attempts of this request are booked that no response has settled."""
        return request in self._failed

    def release_all(self) -> None:
        """Free all reservations: nothing is in flight any more."""
        with self._lock:
            self._reservations.clear()

    def report(self) -> str:
        """What was spent of what, in words."""
        limits, spent = self._budget, self.spent
        parts = []
        if limits.tokens is not None:
            parts.append(f"{spent.tokens:,} of {limits.tokens:,} tokens")
        if limits.money is not None:
            parts.append(f"{spent.money:,.4g} of {limits.money:,.4g} of money")
        if limits.hours is not None:
            parts.append(f"{spent.hours:.3g} of {limits.hours:.3g} hours")
        return ", ".join(parts)
