"""`tracestill run`, and the same up to a stage: `generate`, `filter`, `finetune`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracestill.commands.options import (
    Out,
    Quiet,
    RecipePath,
    Set,
    read_recipe,
    recipe_of_later,
    run_folder,
    warn,
)
from tracestill.records.layout import STAGES, Stage

if TYPE_CHECKING:
    from tracestill.recipe.schema import Recipe


def run(
    recipe: RecipePath,
    set_: Set = None,
    out: Out = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="STAGE", help="Make this stage and later ones again."),
    ] = None,
    stop: Annotated[
        str | None, typer.Option("--to", metavar="STAGE", help="Stop after this stage.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run a recipe end to end; what is there already is reused."""
    run_stages(recipe, set_, out, quiet, start, stop)


def generate(recipe: RecipePath, set_: Set = None, out: Out = None, quiet: Quiet = False) -> None:
    """Make the problems and sample the teacher."""
    run_stages(recipe, set_, out, quiet, stop="generate")


def filter_(
    recipe: RecipePath,
    set_: Set = None,
    out: Out = None,
    quiet: Quiet = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be dropped of a sample.")
    ] = False,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Of how many traces, with --dry-run.")
    ] = 1_000,
) -> None:
    """Verify and filter the traces, and make what that needs."""
    if dry_run:
        _show_funnel(recipe, set_, out, sample)
    else:
        run_stages(recipe, set_, out, quiet, stop="filter")


def _show_funnel(path: Path, overrides: list[str] | None, out: Path | None, sample: int) -> None:
    from tracestill.commands.funnel import print_funnel
    from tracestill.records.progress import ignore_progress
    from tracestill.stages.dry_run import funnel_of_sample

    recipe = read_recipe(path, overrides)
    folder = run_folder(recipe, out)
    found, total = funnel_of_sample(recipe, folder, sample, ignore_progress)
    print_funnel(found)
    typer.echo(f"a sample of {total:,}; nothing was written")


def finetune(recipe: RecipePath, set_: Set = None, out: Out = None, quiet: Quiet = False) -> None:
    """Fine-tune the student, and make what that needs."""
    run_stages(recipe, set_, out, quiet, stop="finetune")


def report(recipe: RecipePath, set_: Set = None, out: Out = None, quiet: Quiet = False) -> None:
    """Write the report, and make what that needs."""
    run_stages(recipe, set_, out, quiet, stop="report")


def run_stages(
    path: Path,
    overrides: list[str] | None,
    out: Path | None,
    quiet: bool,
    start: str | None = None,
    stop: str | None = None,
) -> None:
    """Run a recipe from one stage to another, with its progress and final table."""
    from tracestill.commands.terminal import print_summary, show_progress
    from tracestill.run.pipeline import run_recipe

    first, last = named_stage(start, "--from"), named_stage(stop, "--to")
    if first and last and STAGES.index(first) > STAGES.index(last):
        raise ValueError(f"--from {first} comes after --to {last}")
    recipe = read_recipe(path, overrides)
    folder = run_folder(recipe, out)
    warn(recipe)
    if recipe.rounds is not None and first is None and last is None:
        _run_rounds(recipe, overrides, folder.parent, quiet)
        return
    recipe = recipe.model_copy(update={"rounds": None})  # one stage, of the first round
    with show_progress(quiet) as listener:
        summary = run_recipe(recipe, folder, listener, start=first, stop=last)
    if not quiet:
        print_summary(summary, folder)


def _run_rounds(recipe: Recipe, overrides: list[str] | None, run: Path, quiet: bool) -> None:
    from tracestill.commands.terminal import print_rounds, print_summary, show_progress
    from tracestill.run.rounds import Round, run_rounds
    from tracestill.run.summary import Summary

    assert recipe.rounds is not None
    later = recipe_of_later(recipe, overrides)

    def finished(one: Round, summary: Summary, folder: Path) -> None:
        if not quiet:
            print_summary(summary, folder)
            typer.echo(f"round {one.number} of at most {most}\n")

    most = recipe.rounds.count
    with show_progress(quiet) as listener:
        made = run_rounds(recipe, later, run, listener, finished)
    if not quiet:
        print_rounds(made, run)


def named_stage(name: str | None, option: str) -> Stage | None:
    """The stage that an option names.

    Raises:
        ValueError: there is no such stage.

    """
    if name is None:
        return None
    if name not in STAGES:
        raise ValueError(f"{option} {name}: the stages are {', '.join(STAGES)}")
    return name
