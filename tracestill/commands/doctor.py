"""`tracestill doctor`: what this machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MARKS = {"good": "[green]✓[/]", "missing": "[red]✗[/]", "optional": "[yellow]-[/]"}
_WORDS = {"good": "ok", "missing": "MISSING", "optional": "optional"}


def doctor(
    out: Annotated[Path, typer.Option("--out", help="Where runs would be made.")] = Path("runs"),
    hub: Annotated[
        bool, typer.Option("--hub/--no-hub", help="Ask the hub whether it answers.")
    ] = True,
) -> None:
    """Say what this machine can do of a run, and how to get what is missing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from tracestill.planning.doctor import examine

    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    found = []
    for finding in examine(out, ask_hub=hub):
        found.append(finding)
        mark = _MARKS[finding.state] if console.is_terminal else _WORDS[finding.state]
        lines = [finding.said, *([f"[dim]{escape(finding.cure)}[/]"] if finding.cure else [])]
        lines[0] = escape(lines[0])
        table.add_row(mark, finding.name, "\n".join(lines))
    console.print(table)
    missing = [finding for finding in found if finding.state == "missing"]
    if missing:
        names = ", ".join(finding.name for finding in missing)
        raise ValueError(f"a run needs what is missing here: {names}")
    console.print("\nEverything that a run needs is here: try `make quickstart`.")
