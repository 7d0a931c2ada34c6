"""The recipe's section `filter`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracestill.records.section import Section

Keep = Literal["correct", "unverifiable"]


class NearDuplicates(Section):
    """Near duplicates by MinHash over word n-grams of a problem's traces."""

    threshold: float = Field(default=0.9, gt=0, le=1)
    """The Jaccard similarity from which two traces count as duplicates."""
    ngram: int = Field(default=5, ge=1)
    """How many words make a shingle."""
    permutations: int = Field(default=128, ge=16)


class Decontaminate(Section):
    """Problems that share a run of words with a held-out problem are dropped."""

    ngram: int = Field(default=13, ge=2)
    """How many words in a row must be shared."""


class FilterSection(Section):
    """Which traces are dropped, and why. Every check can be switched off with null or false."""

    verify: bool = True
    """Drop traces whose outcome is not in `keep`; verdicts are recorded either way."""
    keep: list[Keep] = ["correct"]
    """The outcomes that pass."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Drop traces with more completion tokens."""
    exact_duplicates: bool = True
    near_duplicates: NearDuplicates | None = NearDuplicates()
    decontaminate: Decontaminate | None = Decontaminate()
    max_per_problem: int | None = Field(default=None, ge=1)
    """Keep at most so many traces of a problem: those with the lowest sample index."""
    max_traces: int | None = Field(default=None, ge=1)
    """Keep at most so many traces in all, chosen by their identity, whatever their order."""
