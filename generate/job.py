"""What to sample and from whom, and what makes a trace the same trace in another run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from generate.engine import Engine
from generate.reasoning import VERSION
from generate.redact import Masked, redactor
from generate.stopping import Rule
from tracestill.recipe.generate import Budget, Prices
from tracestill.recipe.models import Redact
from tracestill.records import Problem, Teacher, digest
from tracestill.records.verifier import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingJob:
    """How a teacher is sampled, and where the responses go.

    `journal` is the file for responses; verdicts go beside it. `budget` covers all that the
    journal's responses cost, those of earlier runs included. What `redact` finds is masked before
    it is sent; answers are judged with the originals. `languages` passes each problem's language to
    the chat template.

    With a `verifier`, `rule` goes by its verdicts: a sample counts as correct if its verdict is and
    the filter can use it (`tracestill.records.usable`), which keeps at most `max_kept_tokens`
    completion tokens. `canary` stops a run whose first traces are nearly all unusable. `solutions`
    takes what precedes the final answer of a plain solution for its reasoning; a sample can be used
    without any unless the student `needs_reasoning`.
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
    max_kept_tokens: int | None = None
    redact: Redact | None = None
    languages: bool = False
    canary: bool = False
    solutions: bool = False
    needs_reasoning: bool = True

    @property
    def identity(self) -> str:
        """The teacher's fingerprint, which is part of its traces' ids."""
        return teacher_fingerprint(self.teacher, self.system_prompt)

    @property
    def read_by(self) -> int | str:
        """How traces are read, and which of them can be used: verdicts made otherwise are made
        again.
        """
        ways = [self.solutions and "solutions", not self.needs_reasoning and "without reasoning"]
        said = " ".join(way for way in ways if way)
        return f"{VERSION} {said}" if said else VERSION

    @property
    def verdicts(self) -> Path:
        """The file for verdicts."""
        return self.journal.with_name(f"verdicts.{self.journal.name}")


def teacher_fingerprint(teacher: Teacher, system_prompt: str | None) -> str:
    """Who wrote a trace: the teacher with its sampling parameters, but not its token budget, nor
    where it runs, nor the version of its engine.
    """
    values = asdict(teacher)
    values["sampling"].pop("max_tokens")
    values.pop("engine_version")
    values["provider"] = "local"  # wherever it runs; journals that say so are found again
    values.pop("model")  # a folder that was moved is the same model: `content` tells
    return digest("teacher", values, system_prompt)


def sample_seed(seed: int, trace: str) -> int:
    """The seed of one sample, from the recipe's seed and the trace's id."""
    return int(digest("seed", seed, trace)[:8], 16) % 2**31


def prompt_mask(job: SamplingJob) -> Callable[[Problem], Masked] | None:
    """A function that masks the system prompt and a problem's prompt, in this order; None where the
    job masks nothing.
    """
    if job.redact is None:
        return None
    mask = redactor(job.redact)
    return lambda problem: mask(job.system_prompt or "", problem.prompt)


def masked_digest(problems: Sequence[Problem], job: SamplingJob) -> Callable[[int], str | None]:
    """By row, the digest of a problem's prompt as it would be masked now (`Masked.sent`)."""
    mask = prompt_mask(job)
    if mask is None:
        return lambda row: None
    return functools.lru_cache(maxsize=1024)(lambda row: mask(problems[row]).sent)
