"""The recipe's section `rounds`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracestill.recipe.section import Section


class Rounds(Section):
    """Several runs one after the other, in which the student of one is the teacher of the next."""

    count: int = Field(default=3, ge=2)
    """How many at most. They end where the student of a round is right no more often, on the
    held-out problems, than the best one before."""
    later: str | None = None
    """A recipe (relative to this one) for the second round and those after it: more problems, more
    samples. Its teacher is the student of the round before, whatever it names; null: this one."""
    student: Literal["first", "last"] = "first"
    """Which student a round trains: the recipe's own (`first`, as in STaR, Zelikman et al., 2022),
    or that of the round before."""
