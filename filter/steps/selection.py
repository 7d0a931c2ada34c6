"""Drop traces beyond those that a recipe wants: so many of a problem, so many in all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from filter.hashing import Hashes
from filter.steps.step import Mark, Places, View
from tracestill.recipe.filter_steps import Select
from tracestill.records import AnyTrace, digest


@dataclass(frozen=True, slots=True)
class SelectStep:
    """Drop all but the first of each problem in an order (`over_cap`), and of what is left all but
    the first (`over_budget`).
    """

    settings: Select

    def widths(self) -> Mapping[str, int]:
        """What a random order goes by."""
        return {"random": 1} if self.settings.by == "random" else {}

    def measure(self, traces: Sequence[AnyTrace]) -> Mapping[str, Hashes]:
        """A hash of each trace's identity."""
        if self.settings.by != "random":
            return {}
        hashes = [int(digest("budget", trace.id)[:16], 16) for trace in traces]
        return {"random": np.array(hashes, np.uint64).reshape(-1, 1)}

    def decide(self, view: View) -> Iterator[Mark]:
        """All beyond the limits."""
        live = self._ordered(view)
        if (most := self.settings.per_problem) is not None:
            ranks = _ranks(view.index.problems[live])
            for place, rank in zip(live[ranks >= most], ranks[ranks >= most], strict=True):
                detail = f"number {rank + 1} of its problem, {most} are kept"
                yield Mark(int(place), "over_cap", detail)
            live = live[ranks < most]
        if (most := self.settings.total) is not None:
            detail = f"{len(live)} traces were left, {most} are kept"
            for place in live[most:]:
                yield Mark(int(place), "over_budget", detail)

    def _ordered(self, view: View) -> Places:
        if self.settings.by == "first":
            return view.live
        tokens = view.index.tokens[view.live]
        keys: npt.NDArray[Any] = tokens if self.settings.by == "shortest" else -tokens
        if self.settings.by == "random":
            keys = view.measured("random", 0)[view.live]
        return view.live[np.argsort(keys, kind="stable")]


def _ranks(groups: npt.NDArray[Any]) -> Places:
    """How many of its own group stand before each."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    begins = np.r_[True, ordered[1:] != ordered[:-1]] if len(groups) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(begins, np.arange(len(groups)), 0))
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - first
    return ranks
