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
    published: Annotated[
        bool,
        typer.Option("--published", help="Add rows of figures that others published."),
    ] = False,
) -> None:
    """Compare evaluations with the first, problem by problem."""
    from tracestill.commands.evaluated import print_compared
    from tracestill.evaluate.evaluated import compare as compared
    from tracestill.evaluate.evaluated import evaluations_in
    from tracestill.evaluate.published import published as known

    found = compared([one for folder in folders for one in evaluations_in(folder)])
    others = {name: known(name) for name in found} if published else {}
    several = {n: rows for n, rows in found.items() if len(rows) > 1 or others.get(n)}
    if not several:
        raise ValueError(
            f"nothing to compare: each benchmark ({', '.join(found)}) has one evaluation here; "
            f"name more folders{', and nothing of them is published here' if published else ''}"
        )
    print_compared(several, others)
