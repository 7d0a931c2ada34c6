"""The benchmarks that a recipe's key `evaluate.forgetting` names: where they lie, and whether their
answers can be judged here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from tracestill.recipe.benchmarks import BenchmarkSpec, named_benchmark
from tracestill.recipe.evaluate import EvaluateSection, ForgettingBenchmark
from tracestill.recipe.rules import kind_mistake

Named = tuple[str, BenchmarkSpec, int]
"""A benchmark's name, where it lies, and how many of its problems are asked."""


def named(section: EvaluateSection) -> list[Named]:
    """The benchmarks of a section.

    Raises:
        ValueError: there is none of a name, or its file can't be read.

    """
    return [_named(one) for one in section.forgetting]


def _named(one: ForgettingBenchmark) -> Named:
    said = one.benchmark if one.path is None else f"{one.benchmark}={one.path}"
    return (*named_benchmark(said), one.problems)


def forgetting_mistakes(section: EvaluateSection, verifiers: Iterable[str]) -> list[str]:
    """A line for each benchmark that is not there, is named twice, or whose answers nothing judges,
    neither what is known nor the `verifiers` of the user's own.
    """
    mistakes, seen = [], set()
    for index, one in enumerate(section.forgetting):
        key = f"evaluate.forgetting.{index}"
        try:
            name, spec, _ = _named(one)
        except ValueError as error:
            mistakes += [f"{key}: {line}" for line in str(error).splitlines()]
            continue
        if name in seen:
            mistakes.append(f"{key}.benchmark: {name} is named twice")
        seen.add(name)
        if spec.kind == "open":
            mistakes.append(f"{key}.benchmark: nothing judges problems of kind open")
        elif mistake := kind_mistake(spec.kind, verifiers):
            mistakes.append(f"{key}.benchmark: {mistake}, under filter.verifiers")
    return mistakes


def check_judges(section: EvaluateSection) -> None:
    """Check that the libraries which judge a section's benchmarks are installed.

    Raises:
        ValueError: one is not.

    """
    kinds = {name: spec.kind for name, spec, _ in named(section)}
    missing = importlib.util.find_spec("if_verifiable") is None
    if missing and (ours := [name for name, kind in kinds.items() if kind == "ifeval"]):
        raise ValueError(
            f"evaluate.forgetting: {ours[0]} is judged by if-verifiable: pip install "
            "'tracestill[ifeval]', or leave it out"
        )
