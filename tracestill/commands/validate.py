"""`tracestill validate` and `tracestill schema`: recipes without a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tracestill.commands.options import RecipePath, Set, read_recipe, warn


def validate(recipe: RecipePath, set_: Set = None) -> None:
    """Check a recipe and the files that it names; nothing is run."""
    checked = read_recipe(recipe, set_)
    warn(checked)
    typer.echo(f"{recipe} is a good recipe: it makes the run {checked.name!r}.")


def schema(
    check: Annotated[
        Path | None, typer.Option("--check", help="Fail if this file holds another schema.")
    ] = None,
) -> None:
    """Print the JSON schema of recipes, with which editors complete keys."""
    from tracestill.recipe.schema import Recipe

    text = json.dumps(Recipe.model_json_schema(), indent=2) + "\n"
    if check is None:
        typer.echo(text, nl=False)
    elif not check.is_file() or check.read_text() != text:
        raise ValueError(f"{check} is out of date: run `make schema`")
