"""Options that several commands share, and recipes as commands read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracestill.recipe.schema import Recipe

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (YAML).")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Change a key of the recipe; repeatable."),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="The run's folder; runs/<name> by default.")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="NAME=COLUMN", help="Where a column has another name."),
]
Verifiers = Annotated[
    list[str] | None,
    typer.Option(
        "--verifier", metavar="KIND=FILE.py:FUNCTION",
        help="Your function that judges answers to problems of a kind; repeatable.",
    ),
]  # fmt: skip


def read_columns(entries: list[str] | None, example: str) -> dict[str, str]:
    """The columns that `--column` names, by what they hold.

    Raises:
        ValueError: an entry is not written as NAME=COLUMN; `example` is such a name.

    """
    pairs = [entry.partition("=") for entry in entries or ()]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise ValueError(f"--column {wrong[0]}: write it as --column {example}=COLUMN")
    return {name: column for name, _, column in pairs}


def read_recipe(path: Path, overrides: list[str] | None) -> Recipe:
    """A recipe whose files are all there.

    Raises:
        RecipeError: it holds a mistake, or names a file that is missing.

    """
    from tracestill.recipe.loading import load_recipe
    from tracestill.recipe.paths import check_paths

    recipe = load_recipe(path, overrides or ())
    check_paths(recipe)
    return recipe


def recipe_of_later(recipe: Recipe, overrides: list[str] | None) -> Recipe:
    """The recipe of the second round and those after it, of a recipe that has rounds.

    Raises:
        RecipeError: as `read_recipe`.
        ValueError: rounds could not follow each other so.

    """
    from tracestill.run.rounds import check_rounds

    assert recipe.rounds is not None
    named = recipe.rounds.later
    later = recipe if named is None else read_recipe(Path(named), overrides)
    check_rounds(recipe, later)
    return later


def warn(recipe: Recipe) -> None:
    """Print what to know before a run of the recipe."""
    for line in recipe.finetune.warnings():
        typer.echo(f"note: {line}", err=True)


def run_folder(recipe: Recipe, out: Path | None) -> Path:
    """The folder of a recipe's run; where it has rounds, that of the first."""
    folder = out or Path("runs") / recipe.name
    return folder / "round-1" if recipe.rounds is not None else folder
