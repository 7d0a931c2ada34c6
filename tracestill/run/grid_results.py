"""What the runs of a grid gave: figures of each run, means over seeds, effects of each value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tracestill.evaluate.seeds import OverSeeds, over_seeds, paired_effect
from tracestill.recipe.grid import Cell, Grid
from tracestill.records import Manifest, write_atomic
from tracestill.records.figures import EvaluationFigures, SamplingFigures, TrainingFigures
from tracestill.records.layout import PROVENANCE, Stage

RESULT, PLOT = "ablation.json", "ablation.png"
STUDENT = "student_after"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """One run: the value of each varied key, its seed, and what it gave as far as it is complete.

    `teacher_tokens` are completion tokens of its traces, `kept` the traces that the filter left,
    `training_tokens` those that the student went through in all epochs, prompts included. `minutes`
    are those of its stages, whichever run of the grid made them. `failed` says why it is not
    complete.
    """

    labels: dict[str, str]
    seed: int
    run: str
    failed: str | None = None
    pass_at_1: float | None = None
    ci95: tuple[float, float] | None = None
    problems: int | None = None
    teacher_tokens: int | None = None
    kept: int | None = None
    training_tokens: float | None = None
    steps: int | None = None
    minutes: float | None = None
    fingerprints: dict[Stage, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFigures:
    """The means of a cell over its seeds; None of what no run has."""

    labels: dict[str, str]
    pass_at_1: OverSeeds | None
    teacher_tokens: float | None
    kept: float | None
    training_tokens: float | None
    steps: float | None
    minutes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a value of a varied key changes of pass@1 against the key's first value."""

    key: str
    first: str
    value: str
    difference: OverSeeds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GridResult:
    """A grid's runs, the means of its cells, and its effects. `made` counts the stages that were
    made, `shared` those that were taken over from another run.
    """

    runs: list[RunFigures]
    cells: list[CellFigures]
    effects: list[Effect]
    made: int
    shared: int


def figures_of(
    cell: Cell, seed: int, run: str, there: Mapping[Stage, Manifest], failed: str | None
) -> RunFigures:
    """A run's figures, from the manifests of its complete stages."""
    said: dict[str, Any] = {}
    for manifest in there.values():
        figures = manifest.figures
        if isinstance(figures, SamplingFigures):
            said["teacher_tokens"] = figures.tokens
        elif isinstance(figures, TrainingFigures):
            said |= {"training_tokens": figures.tokens * figures.epochs, "steps": figures.steps}
        elif isinstance(figures, EvaluationFigures):
            result = figures.results[STUDENT]
            said |= {
                "pass_at_1": result.pass_at_1, "ci95": result.ci95, "problems": result.problems,
            }  # fmt: skip
    if "filter" in there:
        said["kept"] = there["filter"].rows_out
    if there:
        said["minutes"] = sum(manifest.seconds for manifest in there.values()) / 60
    prints = {stage: manifest.fingerprint for stage, manifest in there.items()}
    return RunFigures(
        labels=cell.labels, seed=seed, run=run, failed=failed, fingerprints=prints, **said
    )


def result_of(grid: Grid, runs: Sequence[RunFigures]) -> GridResult:
    """Means over seeds, and the effect of each value against the first of its key."""
    stages = [pair for run in runs for pair in run.fingerprints.items()]
    return GridResult(
        runs=list(runs),
        cells=[_cell(cell, runs) for cell in grid.cells()],
        effects=[
            Effect(
                key=varied.key,
                first=varied.values[0].label,
                value=value.label,
                difference=paired_effect(
                    _by_pair(runs, varied.key, varied.values[0].label),
                    _by_pair(runs, varied.key, value.label),
                ),
            )
            for varied in grid.varied
            for value in varied.values[1:]
        ],
        made=len(set(stages)),
        shared=len(stages) - len(set(stages)),
    )


def _cell(cell: Cell, runs: Sequence[RunFigures]) -> CellFigures:
    own = [run for run in runs if run.labels == cell.labels]

    def mean(value: Callable[[RunFigures], float | None]) -> OverSeeds | None:
        values = [found for run in own if (found := value(run)) is not None]
        return over_seeds(values) if values else None

    def plain(value: Callable[[RunFigures], float | None]) -> float | None:
        found = mean(value)
        return None if found is None else found.mean

    return CellFigures(
        labels=cell.labels,
        pass_at_1=mean(lambda run: run.pass_at_1),
        teacher_tokens=plain(lambda run: run.teacher_tokens),
        kept=plain(lambda run: run.kept),
        training_tokens=plain(lambda run: run.training_tokens),
        steps=plain(lambda run: run.steps),
        minutes=plain(lambda run: run.minutes),
    )


def _by_pair(
    runs: Sequence[RunFigures], key: str, label: str
) -> dict[tuple[int, tuple[str, ...]], float]:
    """pass@1 of the runs with a value of a key, by seed and all other values."""
    return {
        (run.seed, tuple(value for name, value in run.labels.items() if name != key)): run.pass_at_1
        for run in runs
        if run.labels[key] == label and run.pass_at_1 is not None
    }


def write_result(folder: Path, grid: Grid, stop: Stage, result: GridResult) -> None:
    """Write `ablation.json`: what was asked, settings, seeds, results, date, hardware, versions."""
    values = {
        "name": grid.name,
        "what": grid.what,
        "recipe": grid.recipe.name,
        "set": list(grid.settings),
        "vary": {
            varied.key: {value.label: list(value.settings) for value in varied.values}
            for varied in grid.varied
        },
        "seeds": list(grid.seeds),
        "to": stop,
        "stages": {"made": result.made, "shared": result.shared},
        "effects": [_with_words(asdict(one), one.difference) for one in result.effects],
        "cells": [
            _with_words(asdict(one), one.pass_at_1, verdict=False) for one in result.cells
        ],
        "runs": [
            {name: value for name, value in asdict(run).items() if name != "fingerprints"}
            for run in result.runs
        ],
        "provenance": _newest(folder, result.runs),
    }  # fmt: skip
    write_atomic(folder / RESULT, (json.dumps(values, indent=2) + "\n").encode())


def _with_words(
    values: dict[str, Any], found: OverSeeds | None, *, verdict: bool = True
) -> dict[str, Any]:
    """The values, with what their interval means in words."""
    if verdict:
        values["verdict"] = "not known" if found is None else found.verdict
    if found is not None and found.note:
        values["note"] = found.note
    return values


def _newest(folder: Path, runs: Sequence[RunFigures]) -> dict[str, Any] | None:
    """The provenance of the run that was begun last: when, on what and with which versions."""
    paths = [folder / run.run / PROVENANCE for run in runs]
    found = [json.loads(path.read_text()) for path in paths if path.is_file()]
    if not found:
        return None
    newest: dict[str, Any] = max(found, key=lambda one: str(one["started"]))
    return {name: value for name, value in newest.items() if name != "seed"}
