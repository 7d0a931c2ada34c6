"""The questions of benchmarks, from files and from the hub: to keep them out of training, and to
ask models.
"""

from __future__ import annotations

import itertools
import json
import random
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from generate.hub import hub_rows
from generate.problems import file_rows, instructed, load_problems
from tracestill.recipe.benchmarks import BenchmarkSpec
from tracestill.recipe.problems import Benchmark, FileBenchmark, GymSource
from tracestill.records import BenchmarkItem, Problem, problem_id


def benchmark_items(benchmarks: Iterable[Benchmark]) -> Iterator[BenchmarkItem]:
    """All questions of these benchmarks, in order; their ids are the numbers of their rows.

    Raises:
        ValueError: one can't be read, or lacks the column.

    """
    for one in benchmarks:
        for number, row in enumerate(_rows(one)):
            if one.column not in row:
                raise ValueError(
                    f"the benchmark {one.name} has no column {one.column!r}, only "
                    f"{', '.join(row)}; say which holds the question (column)"
                )
            yield BenchmarkItem(benchmark=one.name, id=str(number), text=str(row[one.column]))


def _rows(benchmark: Benchmark) -> Iterable[dict[str, Any]]:
    if isinstance(benchmark, FileBenchmark):
        return file_rows(Path(benchmark.path))
    return hub_rows(benchmark.dataset, benchmark.config, benchmark.split, benchmark.revision)


def benchmark_problems(name: str, spec: BenchmarkSpec, limit: int | None = None) -> list[Problem]:
    """The problems of a benchmark, or the first `limit`, as models are asked them.

    Where no reference says which of the choices is right, their order is drawn by the question, so
    that it is the same in every evaluation. A question that comes twice with the same reference is
    one problem.

    Raises:
        ValueError: it can't be read, lacks a column, or a row has no answer.

    """
    if spec.gym is not None:
        sources = [
            GymSource(source="reasoning_gym", family=family, size=said["size"],
                      seed=said.get("seed", 0),
                      config={key: v for key, v in said.items() if key not in ("size", "seed")})
            for family, said in spec.gym.items()
        ]  # fmt: skip
        return load_problems(sources, instruction=spec.instruction)[0][:limit]
    if spec.path is not None:
        rows: Iterable[dict[str, Any]] = file_rows(Path(spec.path))
    else:
        assert spec.dataset is not None, "the section names a data set, a file or generators"
        rows = hub_rows(spec.dataset, spec.config, spec.split, spec.revision)
    ask = _template(spec.template)
    found: dict[str, Problem] = {}
    for number, row in enumerate(itertools.islice(rows, limit)):
        problem = instructed(_as_problem(name, spec, row, number, ask), spec.instruction)
        found.setdefault(problem.id, problem)
    if not found:
        raise ValueError(f"the benchmark {name} has no rows")
    return list(found.values())


def _as_problem(
    name: str, spec: BenchmarkSpec, row: Mapping[str, Any], number: int, ask: Callable[..., str]
) -> Problem:
    columns = spec.columns
    needed = [columns.prompt, columns.task, columns.language]
    for one in (columns.reference, columns.choices):
        needed += [one] if isinstance(one, str) else one or []
    if lacking := [column for column in needed if column is not None and column not in row]:
        raise ValueError(
            f"the benchmark {name} has no column {lacking[0]!r}, only {', '.join(row)}; write a "
            "YAML file that says which columns it has (docs/evaluation.md)"
        )
    prompt = str(row[columns.prompt])
    choices = _choices(row, columns.choices)
    if columns.reference is None:
        right, order = choices[0], list(range(len(choices)))
        random.Random(prompt).shuffle(order)
        choices = [choices[place] for place in order]
        reference = string.ascii_uppercase[choices.index(right)]
    elif isinstance(columns.reference, str):
        reference = _reference(row[columns.reference], spec.answer_after, f"{name}, row {number}")
    else:
        whole = {column: row[column] for column in columns.reference}
        reference = json.dumps(whole, ensure_ascii=False, default=str)
    lines = "\n".join(
        f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, choices, strict=False)
    )
    text = ask(prompt=prompt, choices=lines, row=row)
    task = "" if columns.task is None else f"/{row[columns.task]}"
    return Problem(
        id=problem_id(text, reference),
        prompt=text,
        reference=reference,
        kind=spec.kind,
        source=f"{name}{task}",
        language="en" if columns.language is None else str(row[columns.language]),
        meta={"choices": choices} if choices else {},
    )


def _choices(row: Mapping[str, Any], columns: str | Sequence[str] | None) -> list[str]:
    if columns is None:
        return []
    listed = row[columns] if isinstance(columns, str) else [row[column] for column in columns]
    if not isinstance(listed, list) or not 2 <= len(listed) <= len(string.ascii_uppercase):
        raise ValueError(f"{columns} holds no list of 2 to 26 choices but {str(listed)[:60]!r}")
    return [str(choice).strip() for choice in listed]


def _reference(value: Any, mark: str | None, place: str) -> str:
    text = "" if value is None else str(value)
    if mark is not None:
        _, found, text = text.rpartition(mark)
        if not found:
            raise ValueError(f"{place}: the reference has no {mark!r} before its answer")
    if not text.strip():
        raise ValueError(f"{place}: the reference is empty")
    # A whole number that a table has among its floats: 27.0 is written 27.
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else text.strip()


def _template(text: str | None) -> Callable[..., str]:
    if text is None:
        return lambda prompt, choices, row: f"{prompt}\n\n{choices}".rstrip()
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        template = ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(text)
    except TemplateError as error:
        raise ValueError(f"template: {error}") from error

    def ask(**values: Any) -> str:
        try:
            return template.render(**values).strip()
        except TemplateError as error:
            raise ValueError(f"template: {error}") from error

    return ask
