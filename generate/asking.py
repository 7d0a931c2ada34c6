"""Who is asked for what, and what makes a trace the same trace in another run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from generate.config import Budget, Prices
from generate.engine import Engine
from generate.redact import Masked, redactor
from generate.stopping import Rule
from generate.verdicts import Verifier
from tracestill.records import Problem, Teacher, digest
from tracestill.records.models import Redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who is asked for what, and where the responses go.

    `journal` is the file for responses; verdicts go beside it. `budget` holds for all that the
    journal's responses cost, those of earlier runs included. What `redact` finds is masked before
    it is sent; answers are judged with the originals. `languages` tells the chat template each
    problem's language.
    """

    teacher: Teacher
    open_engine: Callable[[], Engine]
    rule: Rule
    journal: Path
    seed: int
    system_prompt: str | None = None
    prices: Prices = field(default_factory=Prices)
    budget: Budget = field(default_factory=Budget)
    verifier: Verifier | None = None
    redact: Redact | None = None
    languages: bool = False

    @property
    def identity(self) -> str:
        """The teacher's fingerprint, which is part of its traces' ids."""
        return teacher_fingerprint(self.teacher, self.system_prompt)

    @property
    def verdicts(self) -> Path:
        """The file for verdicts."""
        return self.journal.with_name(f"verdicts.{self.journal.name}")


def teacher_fingerprint(teacher: Teacher, system_prompt: str | None) -> str:
    """Who a trace is of: the teacher and its way of sampling, but not its token budget, nor where
    it runs, and not the version of its engine.
    """
    values = asdict(teacher)
    values["sampling"].pop("max_tokens")
    values.pop("engine_version")
    values["provider"] = "local"  # wherever it runs; journals that say so are found again
    values.pop("model")  # a folder that was moved is the same model: `content` tells
    return digest("teacher", values, system_prompt)


def sample_seed(seed: int, trace: str) -> int:
    """The seed of one sample, from the recipe's and the trace's identity."""
    return int(digest("seed", seed, trace)[:8], 16) % 2**31


def masking(asking: Asking) -> Callable[[Problem], Masked] | None:
    """What masks the system prompt and a problem's prompt, in this order; None: nothing does."""
    if asking.redact is None:
        return None
    mask = redactor(asking.redact)
    return lambda problem: mask(asking.system_prompt or "", problem.prompt)


def what_is_sent(problems: Sequence[Problem], asking: Asking) -> Callable[[int], str | None]:
    """What today's masking makes of a problem's prompt (see `Masked.sent`), by its row."""
    mask = masking(asking)
    if mask is None:
        return lambda row: None
    return functools.lru_cache(maxsize=1024)(lambda row: mask(problems[row]).sent)
