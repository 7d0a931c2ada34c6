"""The recipe's section `problems`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tracestill.recipe.benchmarks import read_benchmark, shipped
from tracestill.recipe.rules import KindName
from tracestill.recipe.section import Section


class Buckets(Section):
    """A split by a hash of the prompt, which no reordering and no added problem moves."""

    of: int = Field(ge=2)
    """How many buckets there are."""
    keep: list[int] = Field(min_length=1)
    """The buckets (0 to `of` - 1) whose problems are taken."""

    @model_validator(mode="after")
    def _exist(self) -> Buckets:
        if not all(0 <= bucket < self.of for bucket in self.keep):
            raise ValueError(f"keep: {self.of} buckets are numbered 0 to {self.of - 1}")
        return self


class GymSource(Section):
    """Problems made by a generator of reasoning-gym."""

    source: Literal["reasoning_gym"]
    family: str
    """The generator's name, such as `chain_sum`."""
    size: int = Field(ge=1)
    """How many problems to take."""
    seed: int = 0
    """From where the generator starts. Near seeds give the same problems, shifted."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The generator's own options."""
    buckets: Buckets | None = None


class _TableSource(Section):
    """Problems that are rows of a table."""

    columns: dict[str, str] = Field(default_factory=dict)
    """The table's column for each of `prompt`, `reference`, `language`; the same names if empty."""
    kind: KindName = "math"
    """How the answers are judged: by a kind that is known, or one of `filter.verifiers`."""
    language: str = Field(default="en", pattern="^[a-z]{2}$")
    """The problems' language (ISO 639-1), where the table has no column that says it."""
    size: int | None = Field(default=None, ge=1)
    """How many problems to take; all if null."""
    buckets: Buckets | None = None


class FileSource(_TableSource):
    """Problems from a JSONL, JSON, CSV or Parquet file."""

    source: Literal["file"]
    path: str
    """The file; relative to the recipe."""


class HubSource(_TableSource):
    """Problems from a data set on the hub, of which no more is read than is taken."""

    source: Literal["hub"]
    dataset: str
    """The data set's id, such as `openai/gsm8k`."""
    config: str | None = None
    """The data set's configuration; its default if null."""
    split: str
    """The data set's split, such as `test`."""
    revision: str | None = None
    """A commit, tag or branch; what is newest if null, and it is read once for a run."""


ProblemSource = Annotated[GymSource | FileSource | HubSource, Field(discriminator="source")]


class _Benchmark(Section):
    name: str
    """What matches with it are called by."""
    column: str = "prompt"
    """The column that holds the question."""


class FileBenchmark(_Benchmark):
    """A benchmark in a JSONL, JSON, CSV or Parquet file."""

    source: Literal["file"]
    path: str
    """The file; relative to the recipe."""


class HubBenchmark(_Benchmark):
    """A benchmark on the hub."""

    source: Literal["hub"]
    dataset: str
    """The data set's id."""
    config: str | None = None
    """The data set's configuration; its default if null."""
    split: str = "test"
    """The data set's split."""
    revision: str | None = None
    """A commit, tag or branch; what is newest if null."""


def _shipped(value: Any) -> Any:
    """Where a benchmark of recipes/benchmarks/ lies, where only its name is given."""
    if not isinstance(value, str):
        return value
    if value not in (there := shipped()):
        raise ValueError(
            f"{value} is none of the benchmarks that are known by name ({', '.join(there)}); say "
            "where it lies: {name: …, source: file, path: …, column: …}"
        )
    found = read_benchmark(there[value])
    place = found.model_dump(include={"dataset", "config", "split", "revision"})
    return {"name": value, "source": "hub", "column": found.columns.prompt, **place}


Benchmark = Annotated[
    Annotated[FileBenchmark | HubBenchmark, Field(discriminator="source")],
    BeforeValidator(_shipped),
]


class Decontaminate(Section):
    """The benchmarks that training must not have seen."""

    benchmarks: list[Benchmark] = Field(min_length=1)
    """Names, or where they lie. Problems that are like an item are dropped before they are sampled,
    and traces that hold one by the filter's step `contamination`."""
    ngram: int = Field(default=13, ge=5)
    """How many words in a row make a match; an item of fewer words (but five), all of them."""
    renumbered: float | None = Field(default=0.8, gt=0, le=1)
    """The share of an item's runs of words that a problem has, numbers left open, from which it
    counts as the same with other numbers; null: it never does."""


class ProblemsSection(Section):
    """The problems to distil from, and the held-out ones that judge the student."""

    train: list[ProblemSource] = []
    """Empty where traces are imported, which bring their problems; else at least one source."""
    heldout: list[ProblemSource] = Field(min_length=1)
    """The problems that judge the models, of which none is trained on."""
    decontaminate: Decontaminate | None = None
    instruction: str | None = None
    """A paragraph put below every prompt, such as how to write the answer; teacher and student
    both see it. Buckets do not depend on it."""
