"""`tracestill status`: how far a run is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracestill.commands.options import RunPath
from tracestill.records.layout import recipe_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from tracestill.run.states import StageState

SECONDS = 2.0  # between two looks at a run that is watched
_COLOURS = {
    "complete": "green", "running": "cyan", "damaged": "red", "incomplete": "red",
    "unfinished": "yellow", "not begun": "dim",
}  # fmt: skip


def status(
    run: RunPath,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds until it ends.")
    ] = False,
) -> None:
    """Say which stages of a run are complete and how far the others are."""
    recipe_path(run)  # or it is no run
    from rich.console import Console
    from rich.live import Live

    from tracestill.run.states import RunStates

    states, console = RunStates(run), Console(highlight=False)
    if not watch:
        console.print(_table(states.look()))
        return
    if not console.is_terminal:
        raise ValueError("--watch draws on a terminal, and there is none: leave it out")
    with Live(_table(states.look()), console=console, auto_refresh=False) as shown:
        while True:
            running, found = states.running, states.look()
            shown.update(_table(found), refresh=True)
            if not running:
                break
            time.sleep(SECONDS)
    if any(one.state != "complete" for one in found):
        console.print("no process works on it: the command that began it goes on where it was")


def _table(found: Sequence[StageState]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("stage", "state", "rows in", "rows out", "seconds"):
        table.add_column(name, justify="left" if name in ("stage", "state") else "right")
    for one in found:
        colour = _COLOURS[one.state]
        further = f": {escape(said)}" if (said := _said(one)) else ""
        row = [one.stage, f"[{colour}]{one.state}[/]{further}"]
        if (manifest := one.manifest) is not None:
            row += [f"{manifest.rows_in:,}", f"{manifest.rows_out:,}", f"{manifest.seconds:.1f}"]
        table.add_row(*row)
    return table


def _said(one: StageState) -> str:
    """What there is of a stage that is not complete, or why it is none."""
    if one.said:
        return one.said
    parts = []
    if one.responses:
        parts.append(f"{one.responses:,} responses")
        parts += [f"{one.failed:,} failed"] if one.failed else []
        parts += [f"{one.tokens:,} tokens"] if one.tokens else []
        parts += [f"cost {one.cost:,.2f}"] if one.cost else []
    if one.training:
        parts.append(_step(one.training))
    return ", ".join(parts)


def _step(row: Any) -> str:
    """A row of a training's metrics."""
    said = f"step {row['step']:,}"
    if "epoch" in row:
        said += f", epoch {row['epoch']:.2f}"
    if "loss" in row:
        said += f", loss {row['loss']:.3f}"
    if "tokens_per_second" in row:
        said += f", {row['tokens_per_second']:,.0f} tokens/s"
    return said
