"""`tracestill why`: the life of one trace."""

from __future__ import annotations

from typing import Annotated

import typer

from tracestill.commands.options import RunPath
from tracestill.records.layout import recipe_path


def why(
    run: RunPath,
    trace: Annotated[str, typer.Argument(metavar="TRACE", help="Its id, or how that begins.")],
) -> None:
    """Say what became of a trace: each step's decision, and whether it was learnt."""
    recipe_path(run)  # or it is no run
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tracestill.explore.life import life

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for event in life(run, trace):
        dropped = event.said.startswith("dropped")
        table.add_row(event.what, Text(event.said, style="red" if dropped else ""))
    Console(highlight=False).print(table)
