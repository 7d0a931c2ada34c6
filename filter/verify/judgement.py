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


def failed(error: Exception) -> Judgement:
    """What is judged of an answer on which the verifier itself failed."""
    return Judgement(outcome="error", detail=f"{type(error).__name__}: {error}"[:500])
