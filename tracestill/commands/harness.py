"""`tracestill harness`: evaluations for other harnesses, as their commands and as a log to view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def harness(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="OUT…", help="Folders of `tracestill evaluate MODEL`, or runs for their logs."
        ),
    ],
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Write the answers here, for `inspect view --log-dir`."),
    ] = None,
) -> None:
    """Print how lighteval, lm-eval and inspect_ai ask the same; write inspect_ai's logs."""
    from tracestill.evaluate.evaluated import evaluations_in
    from tracestill.evaluate.harnesses import commands
    from tracestill.evaluate.inspect_log import write_log
    from tracestill.recipe.models import LocalModel

    for one in (one for folder in folders for one in evaluations_in(folder)):
        asked = one.plan
        typer.echo(f"{one.model}, {one.benchmark}: pass@1 {one.figures.pass_at_1:.1%}")
        if log is not None:
            typer.echo(f"  log: {write_log(one, log)}")
        if asked is None:
            typer.echo("  a run's own evaluation: only a log can be written of it (--log)\n")
            continue
        if not isinstance(asked.model, LocalModel) and log is not None:
            typer.echo("  asked behind a server, so there is no command that loads it\n")
            continue
        found = commands(asked)
        for command in found:
            typer.echo(f"\n  # {command.harness} ({command.install})\n  {command.command}")
            for line in command.differs:
                typer.echo(f"  #   {line}")
        if not found:
            typer.echo("  no other harness has this benchmark by a name that is known here")
        typer.echo()
    if log is not None:
        typer.echo(f"inspect view --log-dir {log}")
