"""What a step of the filter is.

A step by row looks at each trace by itself: it is called with some traces and yields a drop for
each that it does not let pass. Whatever it is asked of, it is asked of any process. If a recipe has
it count only (`action: keep`), the traces pass, and it may yield more than one for each.

A step over all first measures each trace by itself, in any process, and then decides once about
all that reached it. What it measures is small: it is held for all traces, or read again column by
column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from filter.benchmarks import Finder
from filter.hashing import Hashes
from filter.table import Index
from tracestill.records import AnyTrace, Drop, Problem, Score, TraceText

Places = npt.NDArray[np.int64]
RowStep = Callable[[Iterable[AnyTrace]], Iterable[Drop]]


def whole_text(trace: AnyTrace) -> str:
    """What a trace says: its reasoning, and below it its answer."""
    return f"{trace.reasoning or ''}\n{trace.answer or ''}"


class Mark(NamedTuple):
    """A step over all drops the trace at a place of the table."""

    place: int
    reason: str
    detail: str


class Student(Protocol):
    """The student that is to learn the traces. It may be pickled."""

    def tokens(self, traces: Sequence[AnyTrace]) -> Sequence[int]:
        """How many tokens reasoning and answer of each trace are in its tokenizer."""
        ...

    def scores(self, traces: Sequence[AnyTrace], *, local: bool) -> Sequence[Score | None]:
        """How it takes to each trace, None where it can't learn it."""
        ...

    def pass_rates(self, problems: Sequence[Problem]) -> Sequence[float | None]:
        """How often it solves each problem before it is trained, None where that is unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFacts:
    """What steps by row know of problems, by id; empty where no step goes by it."""

    contaminated: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """For steps of that name, by their number, the contaminated problems."""
    matching: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """For steps by patterns in prompts, by their number, the problems in which one is found."""
    languages: Mapping[str, str] = field(default_factory=dict)
    """Where they are not English."""
    tasks: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Those that tell the steps something."""
    benchmarks: Finder | None = None
    """Those that no trace may hold an item of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a step over all decides on. `live` are the places of the traces that reached it, by
    problem and sample; `right` says of every place whether the trace was judged correct.
    """

    live: Places
    index: Index
    right: npt.NDArray[np.bool_]
    problems: Sequence[Problem]
    measured: Callable[[str, int], Hashes]
    """A column that `measure` gave, by its name and number, for every place; of traces that did not
    come so far it holds zeros."""
    texts: Callable[[Places], Iterator[tuple[Places, list[TraceText]]]]
    """The traces at ascending places, some at a time."""
    scratch: Path
    """A folder for what does not fit into memory."""
    rates: Callable[[], npt.NDArray[np.float64]]
    """The teacher's pass rate of each problem, by its number; NaN where it is unknown."""
    student: Student | None


@runtime_checkable
class GlobalStep(Protocol):
    """A step over all."""

    def widths(self) -> Mapping[str, int]:
        """The names of what is measured, and how many columns each has."""

    def measure(self, traces: Sequence[AnyTrace]) -> Mapping[str, Hashes]:
        """For each name an array of shape (traces, columns)."""

    def decide(self, view: View) -> Iterable[Mark]:
        """What is dropped of all."""


def preferred(view: View, rules: Sequence[str]) -> Places:
    """The live places, those that should stay rather first: `verified`, `shortest`, `longest`; what
    these leave open goes by problem and sample.
    """
    tokens = view.index.tokens[view.live]
    keys = {"verified": ~view.right[view.live], "shortest": tokens, "longest": -tokens}
    by = [keys[rule] for rule in rules if rule != "first"]
    order = np.lexsort([np.arange(len(view.live)), *reversed(by)])
    places: Places = view.live[order]
    return places
