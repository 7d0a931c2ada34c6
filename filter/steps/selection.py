"""Drop traces beyond those that a recipe wants: by a value of theirs, so many of a problem, so many
in all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from filter.diversity import COLUMNS, diverse_ranks, signature_columns
from filter.hashing import Hashes
from filter.measures import measure
from filter.steps.step import Mark, Places, View, whole_text
from filter.steps.values import (
    BRANCHES,
    RANDOM,
    Values,
    student_tokens,
    token_counts,
    uniform,
    values_of,
)
from tracestill.recipe.selection import Select
from tracestill.records import AnyTrace, Problem, digest

_SIGNATURE = "signature"
_SHOWN = {"shortest": "tokens", "longest": "tokens", "pass_rate": "pass rate",
          "student_pass_rate": "the student's pass rate"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SelectStep:
    """Drop what is out of the range of values (`out_of_range`), all but the first of each problem
    (`over_cap`), and of what is left all but the first, or what is drawn (`over_budget`).
    """

    settings: Select

    def widths(self) -> Mapping[str, int]:
        """What the order goes by, where it is measured of each trace by itself."""
        random = self.settings.by == "random" or self.settings.draw != "top"
        widths = {RANDOM: 1} if random else {}
        if self.settings.by == "branches":
            widths[BRANCHES] = 1
        if self.settings.by == "diverse":
            widths[_SIGNATURE] = COLUMNS
        return widths

    def measure(self, traces: Sequence[AnyTrace]) -> Mapping[str, Hashes]:
        """A hash of each trace's identity, its branch words, or its MinHash."""
        widths, found = self.widths(), {}
        if RANDOM in widths:
            seed = [self.settings.seed] if self.settings.seed else []
            hashes = [int(digest("budget", trace.id, *seed)[:16], 16) for trace in traces]
            found[RANDOM] = np.array(hashes, np.uint64).reshape(-1, 1)
        if BRANCHES in widths:
            texts = [trace.reasoning or "" for trace in traces]
            rates = measure(texts, self.settings.branch_words).branches
            found[BRANCHES] = rates.astype(np.float64).view(np.uint64).reshape(-1, 1)
        if _SIGNATURE in widths:
            found[_SIGNATURE] = signature_columns([whole_text(trace) for trace in traces])
        return found

    def decide(self, view: View) -> Iterator[Mark]:
        """All beyond the limits."""
        live = self._among(view)
        values = values_of(self.settings, view, live)
        if self.settings.keep is not None:
            inside = self._inside(values)
            for place, value in zip(live[~inside], values[~inside], strict=True):
                yield Mark(int(place), "out_of_range", self._said(value))
            live, values = live[inside], values[inside]
        order = self._order(view, live, values)
        live, values = live[order], values[order]
        if (most := self.settings.per_problem) is not None:
            ranks = _ranks(view.index.problems[live])
            for place, rank in zip(live[ranks >= most], ranks[ranks >= most], strict=True):
                detail = f"number {rank + 1} of its problem, {most} are kept"
                yield Mark(int(place), "over_cap", detail)
            live, values = live[ranks < most], values[ranks < most]
        yield from self._in_all(view, live, values)

    def _among(self, view: View) -> Places:
        """The places of the traces that the selection is about."""
        among, live = self.settings.among, view.live
        if among.sources is not None:
            wanted = [problem.task in among.sources for problem in view.problems]
            live = live[np.array(wanted, bool)[view.index.problems[live]]]
        if among.pass_rate is not None:
            low, high = among.pass_rate
            rates = view.rates()[view.index.problems[live]]
            live = live[(rates >= low) & (rates <= high)]
        if among.min_tokens is not None or among.max_tokens is not None:
            tokens = token_counts(self.settings, view, live)
            fewest, most = among.min_tokens or 0, among.max_tokens or math.inf
            live = live[(tokens >= fewest) & (tokens <= most)]
        return live

    def _inside(self, values: Values) -> npt.NDArray[np.bool_]:
        assert self.settings.keep is not None
        low, high = self.settings.keep
        inside = ~np.isnan(values)
        if low is not None:
            inside &= values >= low
        if high is not None:
            inside &= values <= high
        return inside

    def _said(self, value: float) -> str:
        assert self.settings.keep is not None
        low, high = self.settings.keep
        name = _SHOWN.get(self.settings.by, self.settings.by.rpartition(":")[2])
        if np.isnan(value):
            return f"{name} is not known"
        bounds = f"at least {low:g}" if low is not None else ""
        if high is not None:
            bounds += f"{' and ' if bounds else ''}at most {high:g}"
        return f"{name} {value:.4g}, kept is {bounds}"

    def _order(self, view: View, live: Places, values: Values) -> Places:
        """The order in which the traces come, those without a value last."""
        if self.settings.by == "diverse":
            signatures = [view.measured(_SIGNATURE, number)[live] for number in range(COLUMNS)]
            ranks = diverse_ranks(np.stack(signatures, axis=1), view.index.problems[live])
            return np.argsort(ranks, kind="stable")
        high_first = self.settings.by in ("longest", "naturalness")
        if high_first != self.settings.reverse:
            values = -values
        return np.argsort(values, kind="stable")  # NaN is the last

    def _in_all(self, view: View, live: Places, values: Values) -> Iterator[Mark]:
        """What the limits over all problems drop, of traces in their order."""
        if (count := self.settings.problems) is not None:
            numbers = view.index.problems[live]
            _, firsts = np.unique(numbers, return_index=True)
            wanted = numbers[np.sort(firsts)[:count]]
            gone = ~np.isin(numbers, wanted)
            detail = f"{len(firsts)} problems were left, {count} are kept"
            yield from (Mark(int(place), "over_budget", detail) for place in live[gone])
            live, values = live[~gone], values[~gone]
        if self.settings.draw != "top" or self.settings.balance is not None:
            order = np.argsort(self._turns(view, live, values), kind="stable")
            live = live[order]
        most = len(live)
        if self.settings.share is not None:
            most = round(self.settings.share * len(live))
        if self.settings.total is not None:
            most = min(most, self.settings.total)
        detail = f"{len(live)} traces were left, {most} are kept"
        yield from (Mark(int(place), "over_budget", detail) for place in live[most:])
        live = live[:most]
        if (budget := self.settings.tokens) is not None:
            spent = np.cumsum(student_tokens(view, live))
            for place, tokens in zip(live[spent > budget], spent[spent > budget], strict=True):
                detail = f"with it {tokens:,} tokens, {budget:,} are kept"
                yield Mark(int(place), "over_budget", detail)

    def _turns(self, view: View, live: Places, values: Values) -> Values:
        """When each trace is taken: by its place in its group, and the groups in turns."""
        groups = self._groups(view, live)
        keys = np.arange(len(live), dtype=np.float64)
        if self.settings.draw != "top":
            # An exponential race: the chance to come first is in proportion to the weight, and so
            # on among the others (Efraimidis and Spirakis 2006).
            race = np.log(-np.log(uniform(view, live)))
            if self.settings.draw == "halving":
                keys = race + _ranks(groups) * math.log(2)
            else:
                rates = values if self.settings.reverse else 1 - values
                with np.errstate(divide="ignore"):
                    keys = race - np.log(np.nan_to_num(rates, nan=0.0))
        order = np.argsort(keys, kind="stable")
        ranks = np.empty(len(live), np.float64)
        ranks[order] = _ranks(groups[order])
        shares = np.ones(len(live))
        for name, weight in self.settings.weights.items():
            shares[groups == name] = weight
        turns: Values = (ranks + 0.5) / shares
        return turns

    def _groups(self, view: View, live: Places) -> npt.NDArray[Any]:
        """The name of each trace's group."""
        balance, numbers = self.settings.balance, view.index.problems[live]
        if balance is None:
            return np.zeros(len(live), np.int64)
        if balance == "length":
            tokens = np.maximum(1, token_counts(self.settings, view, live))
            begins: npt.NDArray[Any] = 2 ** np.floor(np.log2(tokens)).astype(np.int64)
            return begins.astype(str)
        if balance == "difficulty":
            names = [_quarter(rate) for rate in view.rates()]
        else:
            names = [_group(balance, problem) for problem in view.problems]
        found: npt.NDArray[Any] = np.array(names)[numbers]
        return found


def _group(balance: str, problem: Problem) -> str:
    return problem.task if balance == "source" else str(getattr(problem, balance))


def _quarter(rate: float) -> str:
    """A pass rate's group: `unknown`, `0`, `1`, and between them the quarters' upper bounds."""
    if np.isnan(rate):
        return "unknown"
    return f"{math.ceil(rate * 4) / 4:g}" if 0 < rate < 1 else f"{rate:g}"


def _ranks(groups: npt.NDArray[Any]) -> Places:
    """How many of its own group stand before each."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    begins = np.r_[True, ordered[1:] != ordered[:-1]] if len(groups) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(begins, np.arange(len(groups)), 0))
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - first
    return ranks
