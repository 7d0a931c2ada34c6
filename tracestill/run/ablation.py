"""The runs of a grid, one after the other; what is equal in two of them is made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracestill.recipe.grid import Cell, Grid, folder_of
from tracestill.recipe.paths import check_paths
from tracestill.recipe.schema import Recipe
from tracestill.records.layout import RECIPE, Stage
from tracestill.run.errors import StageError, explain
from tracestill.run.grid_results import (
    STUDENT,
    GridResult,
    RunFigures,
    figures_of,
    result_of,
    write_result,
)
from tracestill.run.listener import Listener
from tracestill.run.lock import locked
from tracestill.run.pipeline import run_recipe
from tracestill.run.sharing import adopt, complete, planned, stages_to, take_journals

RUNS = "runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One run of a grid: its cell and seed, its recipe, its folder, and for each stage what its
    settings say it will be (`tracestill.run.sharing.planned`).
    """

    cell: Cell
    seed: int
    recipe: Recipe
    folder: Path
    stages: dict[Stage, str]


def plan_runs(grid: Grid, out: Path, stop: Stage) -> list[Planned]:
    """Every run of a grid in the folder `out`, all cells of a seed before the next seed.

    Raises:
        RecipeError: a cell is no recipe, or names files that are missing.
        ValueError: the evaluation leaves out the trained student, which the cells are compared by.

    """
    cells = grid.cells()
    recipes = [(cell, seed, grid.load(cell, seed)) for seed in grid.seeds for cell in cells]
    runs = []
    for cell, seed, recipe in recipes:
        check_paths(recipe)
        if STUDENT not in recipe.evaluate.models:
            raise ValueError(
                f"evaluate.models: add {STUDENT}: the runs are compared by the trained student"
            )
        runs.append(
            Planned(
                cell=cell,
                seed=seed,
                recipe=recipe,
                folder=out / RUNS / folder_of(cell, seed),
                stages=planned(recipe, stop),
            )
        )
    return runs


def runs_in(out: Path) -> list[Path]:
    """The runs that lie in a grid's folder, those of other values too."""
    return sorted(path for path in (out / RUNS).glob("*") if (path / RECIPE).is_file())


@dataclass(frozen=True, slots=True, kw_only=True)
class GridListener:
    """Functions that are called when a run of a grid begins (with its number from 1), when it ends,
    and those that follow its stages, as far as they are made.
    """

    begin: Callable[[Planned, int], None]
    end: Callable[[Planned, RunFigures, Sequence[Stage]], None]
    stages: Listener


def run_grid(
    grid: Grid, runs: Sequence[Planned], out: Path, stop: Stage, listener: GridListener
) -> GridResult:
    """Make what is missing of a grid's runs, and write `ablation.json` after each of them.

    A run that fails is told in a line and the others go on; those that need the stage that failed
    from the same settings are not tried.

    Raises:
        StoppedError: stopped by Ctrl-C; what was finished is kept.
        ValueError: another ablation works in this folder.
        OSError: the folder can't be written.

    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        # What is complete is in the result from the start: a call that is stopped loses none of it.
        done = {
            number: _figures(run, out, stop, None)
            for number, run in enumerate(runs)
            if len(complete(run.recipe, run.folder, stop)) == len(stages_to(stop))
        }
        broken: dict[str, str] = {}
        for number, run in enumerate(runs):
            listener.begin(run, number + 1)
            shared: list[Stage] = []
            failed = _not_tried(run, broken)
            if failed is None:
                try:
                    shared = _make(run, runs_in(out), listener.stages, stop)
                except (StageError, ValueError, OSError) as error:
                    failed = _line(run, error)
                    if isinstance(error, StageError):
                        stage: Stage = error.stage  # type: ignore[assignment]
                        broken[run.stages[stage]] = f"{stage} failed in {run.folder.name}"
            done[number] = _figures(run, out, stop, failed)
            listener.end(run, done[number], shared)
            result = result_of(grid, [done[place] for place in sorted(done)])
            write_result(out, grid, stop, result)
    return result


def _make(run: Planned, others: Sequence[Path], listener: Listener, stop: Stage) -> list[Stage]:
    """Make what a run lacks, and return the stages that it took over from others."""
    run.folder.mkdir(parents=True, exist_ok=True)
    shared: list[Stage] = []
    for stage in stages_to(stop):
        if stage in complete(run.recipe, run.folder, stage):
            continue
        with locked(run.folder):
            if adopt(stage, run.recipe, run.folder, others) is not None:
                shared.append(stage)
                continue
            take_journals(stage, run.recipe, run.folder, others)
        run_recipe(run.recipe, run.folder, _only(stage, listener), stop=stage)
    # Once more for the summary of all stages; nothing is left to be made.
    run_recipe(run.recipe, run.folder, _only(None, listener), stop=stop)
    return shared


def _only(stage: Stage | None, listener: Listener) -> Listener:
    """A listener that is told of one stage alone: the others are reused."""
    return Listener(
        begin=lambda job: listener.begin(job) if job == stage else None,
        progress=listener.progress,
        stopping=listener.stopping,
        end=lambda entry: listener.end(entry) if entry.name == stage else None,
    )


def _not_tried(run: Planned, broken: dict[str, str]) -> str | None:
    """Why a run is not tried, if one with the same stage has failed."""
    said = next((broken[key] for key in run.stages.values() if key in broken), None)
    return said and f"not tried: {said}, and this run has the same one"


def _line(run: Planned, error: Exception) -> str:
    if isinstance(error, StageError):
        log = error.log.relative_to(run.folder.parent.parent)
        return f"{error.stage} failed: {error} (log: {log})"
    return explain(error)


def _figures(run: Planned, out: Path, stop: Stage, failed: str | None) -> RunFigures:
    there = complete(run.recipe, run.folder, stop)
    name = run.folder.relative_to(out).as_posix()
    return figures_of(run.cell, run.seed, name, there, failed)
