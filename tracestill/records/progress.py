"""What a stage tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stage is; a field that does not apply is None.

    `done` of `total` counts what the stage counts (rows, traces, optimiser steps); `total` is None
    where a stream does not know its length.
    """

    done: int
    total: int | None = None
    at_most: bool = False
    """Whether `total` is only a bound, as the end is not known yet."""
    reused: int | None = None
    """Traces that an earlier run had sampled."""
    samples: int | None = None
    """Traces there are, where `done` counts problems."""
    verified: int | None = None
    """Traces that were judged correct so far."""
    failed: int | None = None
    """Requests that came back without an answer in this run."""
    kept: int | None = None
    """Traces that no filter has dropped so far."""
    tokens: int | None = None
    tokens_per_second: float | None = None
    tokens_per_verified: float | None = None
    cost: float | None = None
    """In the currency of the recipe's prices, earlier runs included."""
    loss: float | None = None
    """Nats per learnt token at the last optimiser step."""
    accuracy: float | None = None
    """The share of its learnt tokens that were the most probable ones."""


OnProgress = Callable[[Progress], None]
"""Is told how far a stage is, as often as the stage likes."""


def ignore_progress(progress: Progress) -> None:
    """Tell nobody."""
