"""What a run may spend, kept to whatever the answers' lengths turn out to be."""

from __future__ import annotations

import time

from generate.config import Budget, Prices
from generate.engine import Response
from generate.ledger import Spent


class BudgetReachedError(ValueError):
    """The budget is spent; the message says what is there and what is missing."""


class Purse:
    """What was spent and what is set aside for requests in flight, at the most that each can
    cost: so a budget is never exceeded, but for hours, at whose end what is in flight is awaited.

    A prompt's tokens are unknown before it is answered; it has no more of them than bytes.
    """

    def __init__(self, budget: Budget, prices: Prices, before: Spent) -> None:
        self._budget = budget
        self._prices = prices
        self._before = before
        self._begin: float | None = None
        self._aside: dict[str, tuple[int, float]] = {}
        self._tokens_aside, self._money_aside = 0, 0.0
        self.tokens = 0
        self.money = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of sampling, those of earlier runs included."""
        begun = self._begin is not None and time.monotonic() - self._begin
        return self._before.hours * 3600 + begun

    @property
    def spent(self) -> Spent:
        """All that was spent, earlier runs included."""
        return Spent(
            tokens=self._before.tokens + self.tokens,
            money=self._before.money + self.money,
            hours=self.seconds / 3600,
        )

    def set_aside(self, request: str, prompt: int, completion: int) -> bool:
        """Set aside what a request can cost at most, if that much is left: its prompt's bytes and
        its longest completion's tokens.
        """
        if self._begin is None:  # now the engine is loaded
            self._begin = time.monotonic()
        tokens = prompt + completion
        money = (self._prices.prompt * prompt + self._prices.completion * completion) / 1e6
        if self._lacks(tokens, money):
            return False
        self._aside[request] = (tokens, money)
        self._tokens_aside += tokens
        self._money_aside += money
        return True

    def _lacks(self, tokens: int, money: float) -> bool:
        limits, spent = self._budget, self.spent
        tokens += spent.tokens + self._tokens_aside
        money += spent.money + self._money_aside
        return (
            (limits.tokens is not None and tokens > limits.tokens)
            or (limits.money is not None and money > limits.money)
            or (limits.hours is not None and spent.hours >= limits.hours)
        )

    def pay(self, response: Response) -> float:
        """Take a response's cost from what was set aside, and return it in money."""
        tokens, money = self._aside.pop(response.id, (0, 0.0))
        self._tokens_aside -= tokens
        self._money_aside -= money
        cost = response.cost
        if cost is None:
            paid = self._prices.prompt * response.prompt_tokens
            cost = (paid + self._prices.completion * response.new_tokens) / 1e6
        self.tokens += response.prompt_tokens + response.new_tokens
        self.money += cost
        return cost

    def put_back(self) -> None:
        """Nothing is in flight any more."""
        self._aside.clear()
        self._tokens_aside, self._money_aside = 0, 0.0

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
