"""What judges traces: the rules, a model as judge, or both with the agreement of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracestill.records.schema import AnyTrace, Problem, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """A function from problems and their traces to verdicts, one for each pair, in order.

    `names` are those that its verdicts can bear, with versions: a verdict of an earlier run counts
    if it bears one of them. `verify` raises RuntimeError where it can't judge at all; a row that
    it can't judge has the outcome `error`.
    """

    names: Sequence[str]
    verify: Callable[[Sequence[tuple[Problem, AnyTrace]]], Sequence[Verdict]]
