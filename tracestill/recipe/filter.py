"""The recipe's section `filter`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from tracestill.recipe.models import LocalModel, ServedModel, engine_of
from tracestill.recipe.sandbox import read_sandbox
from tracestill.recipe.section import Section

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


class Agreement(Section):
    """Count the answer that most of a problem's samples give as right, where no rule decides."""

    samples: int = Field(default=4, ge=2)
    """The fewest samples of a problem."""
    share: float = Field(default=0.5, ge=0.5, lt=1)
    """The answer must be that of more than this share of them."""


class _Judging(Section):
    """A judge's prompt and sampling."""

    template: str
    """The rubric (a .jinja file, relative to the recipe) with `problem`, `reference`, `answer`."""
    max_tokens: int = Field(default=4096, ge=1)
    """The longest reply, reasoning included."""
    temperature: float = Field(default=0.0, ge=0)


class LocalJudge(LocalModel, _Judging):
    """A language model that judges what no rule decides, run by vLLM in this process."""


class ServedJudge(ServedModel, _Judging):
    """A language model that judges what no rule decides, behind an endpoint."""


Judge = Annotated[
    Annotated[LocalJudge, Tag("vllm")] | Annotated[ServedJudge, Tag("openai")],
    Discriminator(engine_of),
]


class FilterSection(Section):
    """Which traces are dropped, and why. Every check can be switched off with null or false."""

    verify: bool = True
    """Drop traces whose outcome is not in `keep`; verdicts are recorded either way."""
    keep: list[Keep] = ["correct"]
    """The outcomes that pass."""
    agreement: Agreement | None = None
    """Settle what the rules leave open by the agreement of a problem's samples; null: don't."""
    judge: Judge | None = None
    """Settle it by a model; where the samples agree (`agreement`) too, both must say the same."""
    sandbox: str = "bubblewrap"
    """Where programs run, for the filter and the evaluation: `bubblewrap` on this machine, or a
    server: `piston=http://HOST:2000`, `sandboxfusion=http://HOST:8080`, `e2b`."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Drop traces with more completion tokens."""
    exact_duplicates: bool = True
    near_duplicates: NearDuplicates | None = NearDuplicates()
    decontaminate: Decontaminate | None = Decontaminate()
    max_per_problem: int | None = Field(default=None, ge=1)
    """Keep at most so many traces of a problem: those with the lowest sample index."""
    max_traces: int | None = Field(default=None, ge=1)
    """Keep at most so many traces in all, chosen by their identity, whatever their order."""

    @field_validator("sandbox")
    @classmethod
    def _is_sandbox(cls, text: str) -> str:
        read_sandbox(text)
        return text
