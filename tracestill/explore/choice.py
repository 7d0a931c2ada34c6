"""Which traces a report shows, where there is no room for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

KEPT = "kept"

_OF_EACH = 3  # traces of each reason that come before all others
_LONGEST = 10
_LOOPS = 200  # traces in which loops are looked for
_OF_A_PROBLEM = 12
_LOOPING = ("loop", "repetitive", "compressible", "truncated", "malformed")
_GOLDEN = 0.6180339887498949

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """All traces by their place in the table: the number of their problem, their tokens, the number
    of the reason for which they were dropped (in `reasons`, of which `kept` is one), and which are
    disputed.
    """

    problems: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    reason: npt.NDArray[np.int64]
    reasons: Sequence[str]
    disputed: Places


class Problems:
    """The traces of each problem, so many at most: kept and dropped ones in turns."""

    def __init__(self, fates: Fates) -> None:
        self._fates = fates
        self._order = np.argsort(fates.problems, kind="stable")
        self._sorted = fates.problems[self._order]

    def of(self, place: int) -> list[int]:
        """The places of a trace and of the others of its problem, in the order of the table."""
        problem = self._fates.problems[place]
        begin, end = np.searchsorted(self._sorted, [problem, problem + 1])
        every: list[int] = self._order[begin:end].tolist()
        if len(every) <= _OF_A_PROBLEM:
            return every
        kept = [one for one in every if self._reason(one) == KEPT and one != place]
        dropped = [one for one in every if self._reason(one) != KEPT and one != place]
        shorter = min(len(kept), len(dropped))
        turns = [one for pair in zip(kept, dropped, strict=False) for one in pair]
        rest = kept[shorter:] + dropped[shorter:]
        return sorted([place, *turns, *rest][:_OF_A_PROBLEM])

    def _reason(self, place: int) -> str:
        return self._fates.reasons[int(self._fates.reason[place])]


def first(fates: Fates) -> list[int]:
    """The places that should have room before all others: some traces of each reason, and the
    longest of all.
    """
    columns = _columns(fates)
    each = [column[rank] for rank in range(_OF_EACH) for column in columns if rank < len(column)]
    return [*map(int, each), *_longest(fates.tokens, _LONGEST)]


def others(fates: Fates) -> Iterator[int]:
    """The other places in the order in which they should have room: what is disputed, then from all
    reasons in turns, each from all over the table.
    """
    yield from fates.disputed.tolist()
    columns = _columns(fates)
    for rank in range(_OF_EACH, max(map(len, columns), default=0)):
        yield from (int(column[rank]) for column in columns if rank < len(column))


def looping(fates: Fates) -> list[int]:
    """The places of traces that may hold the longest loops: the longest of those that were dropped
    for what loops bring.
    """
    wanted = [number for number, one in enumerate(fates.reasons) if one in _LOOPING]
    places = np.flatnonzero(np.isin(fates.reason, wanted))
    return [int(places[at]) for at in _longest(fates.tokens[places], _LOOPS)]


def _columns(fates: Fates) -> list[Places]:
    return [_spread(np.flatnonzero(fates.reason == one)) for one in range(len(fates.reasons))]


def _longest(tokens: npt.NDArray[np.int64], count: int) -> list[int]:
    order: list[int] = np.argsort(-tokens, kind="stable")[:count].tolist()
    return order


def _spread(places: Places) -> Places:
    """Places in an order of which every beginning is spread evenly over them."""
    return places[np.argsort(np.arange(len(places)) * _GOLDEN % 1.0)]
