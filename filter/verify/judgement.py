"""What a verifier returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tracestill.records import Outcome, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """An outcome, the answer that was found in the text (None: none), and why."""

    outcome: Outcome
    extracted: str | None = None
    detail: str = ""


Verifier = Callable[[Problem, str | None], Judgement]
"""Judges an answer (the text after the reasoning; None where there is none) to a problem."""
