"""`tracestill view`: a local browser of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_EXTRA = {"duckdb", "fastapi", "uvicorn", "pydantic", "starlette"}


def view(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Runs' folders.")],
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Where it listens on this machine."),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Open no browser; the address is printed anyhow.")
    ] = False,
) -> None:
    """Look at runs in the browser of this machine: traces, progress, and what people decide."""
    from tracestill.records.layout import recipe_path

    for run in runs:
        recipe_path(run)  # or it is no run
    from tracestill.view.server import serve

    def tell(url: str) -> None:
        typer.echo(f"Open {url}\nCtrl-C ends it.")

    try:
        serve(runs, port, tell, browser=not no_browser)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise ValueError(
            f"{error.name} is not installed: `pip install 'tracestill[view]'` installs what the "
            "view needs"
        ) from error
    typer.echo("The view has ended; a run that goes on is not touched by it.")
