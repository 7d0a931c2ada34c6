"""Benchmarks as files: where one lies, what its columns hold, and how it is answered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from tracestill.recipe.rules import KindName
from tracestill.recipe.section import Section
from tracestill.recipe.yaml_values import read_yaml

FOLDER = Path(__file__).parents[2] / "recipes" / "benchmarks"


class BenchmarkColumns(Section):
    """The table's columns."""

    prompt: str = "prompt"
    """The question."""
    reference: str | list[str] | None = "reference"
    """The answer, or what it is judged by. Several columns become one JSON object, as tests of
    programs are given. null: the first of `choices` is right."""
    choices: str | list[str] | None = None
    """The options: a column that holds a list, or a column for each."""
    task: str | None = None
    """What results are told apart by, such as the subject."""
    language: str | None = None


class BenchmarkSpec(Section):
    """A table on the hub (`dataset`) or in a file (`path`), or problems that are generated (`gym`),
    and how models answer them.
    """

    dataset: str | None = None
    """The data set's id on the hub."""
    config: str | None = None
    """The data set's configuration; its default if null."""
    split: str = "test"
    """The data set's split."""
    revision: str | None = None
    """A commit, tag or branch; what is newest if null."""
    path: str | None = None
    """A JSONL, JSON, CSV or Parquet file in place of the hub; relative to this file."""
    gym: dict[str, dict[str, Any]] | None = None
    """In place of a table: generators of reasoning-gym by name, each with `size`, `seed` and its
    own options."""
    columns: BenchmarkColumns = BenchmarkColumns()
    kind: KindName = "math"
    """How answers are judged."""
    answer_after: str | None = None
    """The mark in the reference behind which the answer stands, such as `####`."""
    template: str | None = None
    """The question as it is asked, in Jinja: `prompt`, `choices` (lines with letters) and `row`
    (all columns). By default the prompt, and below it the choices."""
    instruction: str | None = None
    """A paragraph put below every question, such as how to write the answer."""
    samples: int = Field(default=1, ge=1)
    """Answers to a problem."""
    max_tokens: int = Field(default=32768, ge=1)
    """The longest answer."""
    temperature: float = Field(default=0.6, ge=0)
    """How freely tokens are drawn; 0 takes the likeliest."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Tokens are drawn from the likeliest ones, until their probabilities sum to this."""
    top_k: int = Field(default=-1, ge=-1)
    """How many tokens are candidates; -1 means all."""

    @model_validator(mode="after")
    def _one_place(self) -> BenchmarkSpec:
        if sum(place is not None for place in (self.dataset, self.path, self.gym)) != 1:
            raise ValueError("say where it lies, by one of dataset, path and gym")
        if self.columns.reference is None and self.columns.choices is None:
            raise ValueError(
                "columns: name the reference, or the choices of which the first is right"
            )
        return self


def shipped() -> dict[str, Path]:
    """The files of the benchmarks that are known by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def read_benchmark(path: Path) -> BenchmarkSpec:
    """The benchmark in a YAML file, its path made absolute.

    Raises:
        ValueError: the file can't be read or holds a mistake; a line for each.

    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the benchmark {path} can't be read: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"the benchmark {path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a benchmark is a mapping of keys such as dataset and columns")
    if isinstance(place := values.get("path"), str):
        values["path"] = str((path.parent / Path(place).expanduser()).resolve())
    try:
        return BenchmarkSpec.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, one['loc'])) or 'benchmark'}: "
            f"{one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise ValueError("\n".join(lines)) from error


def named_benchmark(said: str) -> tuple[str, BenchmarkSpec]:
    """The benchmark that a command's argument says: a name, NAME=FILE (the same questions in a
    local file), or a YAML file; and its name.

    Raises:
        ValueError: there is none of this name, or its file can't be read.

    """
    name, sign, file = said.partition("=")
    if not sign and said.endswith((".yaml", ".yml")):
        stem = Path(said).stem
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", stem):
            raise ValueError(f"{said}: name the file in letters, digits, - and _: it names results")
        return stem, read_benchmark(Path(said))
    there = shipped()
    if name not in there:
        raise ValueError(
            f"{name} is none of the benchmarks that are known by name ({', '.join(there)}); write "
            "your own as a YAML file (docs/evaluation.md) and name that"
        )
    found = read_benchmark(there[name])
    if not sign:
        return name, found
    if not Path(file).is_file():
        raise ValueError(f"{said}: there is no file {file}")
    local = {"dataset": None, "config": None, "path": str(Path(file).resolve())}
    return name, found.model_copy(update=local)
