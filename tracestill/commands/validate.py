"""`tracestill validate` and `tracestill schema`: recipes without a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracestill.commands.options import RecipePath, Set, read_recipe, recipe_of_later, warn

if TYPE_CHECKING:
    from tracestill.recipe.schema import Recipe


def validate(recipe: RecipePath, set_: Set = None) -> None:
    """Check a recipe and the files that it names, and how its student is prompted; nothing is
    run.
    """
    checked = read_recipe(recipe, set_)
    if checked.rounds is not None:
        recipe_of_later(checked, set_)
    warn(checked)
    _tell_contract(checked)
    typer.echo(f"{recipe} is a good recipe: it makes the run {checked.name!r}.")


def _tell_contract(recipe: Recipe) -> None:
    """Print the contract of the student's template, if what that takes is on this machine."""
    from tracestill.planning.contract import student_contract

    found = student_contract(recipe)
    if found is None:
        typer.echo("The student's template is tried once its tokenizer is on this machine.")
        return
    typer.echo(f"Template: {Path(recipe.finetune.template).name}: {found.contract.described()}")
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)


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
