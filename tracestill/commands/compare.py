"""`tracestill compare`: evaluations side by side, with a paired test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="OUT…",
            help="Folders of `tracestill evaluate MODEL`, or runs, whose own evaluations count.",
        ),
    ],
) -> None:
    """Compare evaluations with the first, problem by problem."""
    from tracestill.commands.evaluated import print_compared
    from tracestill.evaluate.evaluated import compare as compared
    from tracestill.evaluate.evaluated import evaluations_in

    found = compared([one for folder in folders for one in evaluations_in(folder)])
    several = {name: rows for name, rows in found.items() if len(rows) > 1}
    if not several:
        raise ValueError(
            f"nothing to compare: each benchmark ({', '.join(found)}) has one evaluation here; "
            "name more folders"
        )
    print_compared(several)
