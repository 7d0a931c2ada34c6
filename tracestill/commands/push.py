"""`tracestill push`: the kept traces of a run as a data set on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracestill.commands.options import RunPath


def push(
    run: RunPath,
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="The data set's name on the hub: user/name.")
    ],
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", help="As the hub names it, such as apache-2.0; else the teacher's."
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private/--public", help="Who may read it, where it is new.")
    ] = True,
    dry_run: Annotated[
        Path | None,
        typer.Option(
            "--dry-run", metavar="DIR", help="Write there what would be uploaded; send nothing."
        ),
    ] = None,
) -> None:
    """Share the traces that the filter kept, with a card, as a data set on the hub."""
    import tempfile

    from tracestill.recipe.egress import check_push
    from tracestill.recipe.loading import recipe_of_run
    from tracestill.run.fingerprint import reusable
    from tracestill.run.pipeline import LINE
    from tracestill.stages.dataset import check_kept, write_dataset
    from tracestill.stages.hub import create_dataset, hub_url, upload_dataset

    recipe = recipe_of_run(run)
    count = check_kept(run)
    if not reusable(LINE["filter"], "filter", recipe, run):
        raise ValueError(
            f"the kept traces of {run} are not those of its recipe as it is now: "
            "`tracestill filter RECIPE` brings them up to date"
        )
    if dry_run is not None:
        if dry_run.exists() and any(dry_run.iterdir()):
            raise ValueError(f"{dry_run} is not empty: name a new folder")
        write_dataset(recipe, run, dry_run, licence, repository)
        typer.echo(f"{count:,} traces and their card are in {dry_run}; nothing was sent")
        return
    check_push(recipe, hub_url())
    repository = create_dataset(repository, private=private)
    with tempfile.TemporaryDirectory(dir=run, prefix=".push-") as made:
        write_dataset(recipe, run, Path(made), licence, repository)
        address = upload_dataset(Path(made), repository)
    typer.echo(f"{count:,} traces and their card: {address}")
