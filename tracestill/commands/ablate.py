"""`tracestill ablate`: vary keys of a recipe over seeds, and say what each value changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracestill.commands.options import Quiet, Set

if TYPE_CHECKING:
    from tracestill.planning.ablation import GridPlan
    from tracestill.recipe.grid import Grid
    from tracestill.records.layout import Stage
    from tracestill.run.ablation import GridListener, Planned
    from tracestill.run.grid_results import GridResult, RunFigures
    from tracestill.run.listener import Listener


def ablate(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE|GRID", help="A recipe, or a grid's file (YAML).")
    ],
    vary: Annotated[
        list[str] | None,
        typer.Option("--vary", metavar="A.B=V1,V2", help="Values to compare; repeatable."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="N", help="How many (3: 0, 1, 2), or which: 3,7."),
    ] = None,
    set_: Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder; runs/ablate-<recipe> by default.")
    ] = None,
    stop: Annotated[
        str, typer.Option("--to", metavar="STAGE", help="Stop each run after this stage.")
    ] = "evaluate",
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say how many runs, and how long they take.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe with every combination of some values, each with several seeds, and compare."""
    from tracestill.commands.run import named_stage
    from tracestill.commands.terminal import show_progress
    from tracestill.planning.ablation import plan_grid
    from tracestill.recipe.grid import read_grid
    from tracestill.run.ablation import plan_runs, run_grid

    last = named_stage(stop, "--to")
    assert last is not None
    grid = read_grid(recipe, vary or (), seeds, set_ or ())
    folder = out or Path("runs") / grid.name
    runs = plan_runs(grid, folder, last)
    if plan or not quiet:
        _print_plan(grid, plan_grid(runs, folder, last), len(runs))
    if plan:
        return
    with show_progress(quiet) as listener:
        result = run_grid(grid, runs, folder, last, _listener(listener, len(runs), quiet))
    if result.effects and any(one.difference for one in result.effects):
        _plot(grid, result, folder)
    if not quiet:
        _print_result(grid, result, folder)
    if failed := sum(run.failed is not None for run in result.runs):
        raise RuntimeError(
            f"{failed} of {len(result.runs)} runs are not complete: the lines above say why; the "
            "same command makes what is missing"
        )


def _print_plan(grid: Grid, plan: GridPlan, runs: int) -> None:
    """How many runs, how many stages are shared, and how long it takes."""
    cells, seeds = runs // len(grid.seeds), len(grid.seeds)
    if grid.what:
        typer.echo(grid.what)
    total = sum(stage.runs for stage in plan.stages)
    shared = sum(stage.shared for stage in plan.stages)
    typer.echo(
        f"{runs} runs: {cells} settings with {seeds} {'seed' if seeds == 1 else 'seeds'} each. "
        f"Of their {total} stages {shared} are shared with another run, which leaves "
        f"{total - shared} to make:"
    )
    for stage in plan.stages:
        done = f" in all, {stage.complete} made already" if stage.complete else ""
        each = "" if stage.seconds is None else f", {stage.seconds:,.0f} s each so far"
        typer.echo(f"  {stage.stage:<9} {stage.runs - stage.shared:>3}{done}{each}")
    if plan.minutes is None:
        typer.echo("How long it takes is not known until the first run ends.\n")
    elif not any(stage.missing for stage in plan.stages):
        typer.echo("Nothing is left to make.\n")
    else:
        minutes = math.ceil(plan.minutes)
        typer.echo(f"About {minutes:,} {'minute is' if minutes == 1 else 'minutes are'} left.\n")


def _listener(stages: Listener, total: int, quiet: bool) -> GridListener:
    """Lines for each run, around those of its stages."""
    from tracestill.run.ablation import GridListener

    def begin(run: Planned, number: int) -> None:
        if not quiet:
            typer.echo(f"{number} of {total}: {run.cell}, seed {run.seed}")

    def end(run: Planned, found: RunFigures, shared: Sequence[Stage]) -> None:
        if found.failed is not None:
            typer.echo(f"{run.cell}, seed {run.seed}: {found.failed}", err=True)
        elif not quiet:
            said = [f"{', '.join(shared)} shared"] if shared else []
            if found.pass_at_1 is not None:
                said.append(f"pass@1 {found.pass_at_1:.1%}")
            for line in said:
                typer.echo(f"{'':<10}{line}")

    return GridListener(begin=begin, end=end, stages=stages)


def _plot(grid: Grid, result: GridResult, folder: Path) -> None:
    from tracestill.explore.effects import Group, plot_effects
    from tracestill.run.grid_results import PLOT

    groups = [
        Group(
            key=varied.key,
            first=varied.values[0].label,
            values=[(one.value, one.difference) for one in result.effects if one.key == varied.key],
        )
        for varied in grid.varied
    ]
    plot_effects(groups, folder / PLOT)


def _print_result(grid: Grid, result: GridResult, folder: Path) -> None:
    """A row for each setting, then the effect of each value."""
    from rich.console import Console
    from rich.table import Table

    from tracestill.evaluate.seeds import OverSeeds
    from tracestill.recipe.grid import short
    from tracestill.run.grid_results import PLOT, RESULT

    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for varied in grid.varied:
        table.add_column(short(varied.key), no_wrap=True)
    columns = ("seeds", "pass@1", "95% interval", "teacher tokens", "kept", "training tokens")
    for name in (*columns, "steps", "minutes"):
        table.add_column(name, justify="right", no_wrap=name == "95% interval")

    def number(value: float | None, digits: int = 0) -> str:
        return "" if value is None else f"{value:,.{digits}f}"

    def interval(found: OverSeeds | None, sign: str = "") -> str:
        if found is None or found.ci95 is None:
            return ""
        low, high = found.ci95
        return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"

    for cell in result.cells:
        found = cell.pass_at_1
        table.add_row(
            *cell.labels.values(),
            str(found.seeds) if found else "",
            f"{found.mean:.1%}" if found else "",
            interval(found),
            number(cell.teacher_tokens), number(cell.kept), number(cell.training_tokens),
            number(cell.steps), number(cell.minutes, 1),
        )  # fmt: skip
    console.print()
    console.print(table)
    judged = any(cell.pass_at_1 for cell in result.cells)
    for effect in result.effects if judged else ():
        said = f"{short(effect.key)}: {effect.value} against {effect.first}"
        change = effect.difference
        if change is None:
            console.print(f"{said}: not known, no pair of runs is complete", markup=False)
            continue
        between = f" (95% interval {interval(change, '+')})" if change.ci95 else ""
        note = f"; {change.note}" if change.note else ""
        line = f"{said}: {100 * change.mean:+.1f} points of pass@1{between}: {change.verdict}{note}"
        console.print(line, markup=False)
    notes = {cell.pass_at_1.note for cell in result.cells if cell.pass_at_1}
    for note in sorted(notes - {""}) if not result.effects else []:
        console.print(note)
    console.print(
        f"\n{result.made} stages were made, {result.shared} shared. Figures: {folder / RESULT}"
        + (f", plot: {folder / PLOT}" if (folder / PLOT).exists() else "")
    )
