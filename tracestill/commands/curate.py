"""`tracestill curate`: the filter's steps on files of traces, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tracestill.commands.options import Columns, Quiet, Verifiers, read_columns

if TYPE_CHECKING:
    from tracestill.recipe.filter import FilterSection
    from tracestill.recipe.section import Section

S = TypeVar("S", bound="Section")


def curate(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Traces: a file, a folder or a glob of them.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="Those that are kept: .jsonl or .parquet.")
    ],
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps", metavar="STEPS", help="In YAML, as filter.steps: one step, or a list."
        ),
    ] = None,
    selection: Annotated[
        str | None, typer.Option("--selection", metavar="NAME", help="A named selection's steps.")
    ] = None,
    layout: Annotated[
        str, typer.Option("--layout", help="The data set whose columns they have.")
    ] = "table",
    column: Columns = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="How answers are judged: math, choice, …")
    ] = None,
    reasoning: Annotated[
        str,
        typer.Option(
            "--reasoning", help="marked by think tags, or solution: what precedes the answer."
        ),
    ] = "marked",
    verifier: Verifiers = None,
    drops: Annotated[
        Path | None, typer.Option("--drops", metavar="FILE", help="Why the others are not kept.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Ask the filter's steps about files of traces, one step or several."""
    from tracestill.commands.funnel import print_funnel
    from tracestill.commands.terminal import show_bar
    from tracestill.recipe.generate import ImportTeacher
    from tracestill.recipe.rules import kind_mistake
    from tracestill.records.row_file import check_ending
    from tracestill.stages.curate import curate as ask

    check_ending("OUT", target)
    if drops is not None:
        check_ending("--drops", drops)
    settings = _settings(steps, selection, verifier)
    values = {
        "engine": "import", "path": source, "layout": layout, "kind": kind, "reasoning": reasoning,
        "columns": read_columns(column, "prompt"),
    }  # fmt: skip
    section = _checked(ImportTeacher, values)
    if kind is not None and (mistake := kind_mistake(kind, settings.verifiers)):
        raise ValueError(f"--kind {kind}: {mistake}, with --verifier {kind}=FILE.py:FUNCTION")
    with show_bar("curating", quiet) as report:
        found, lost = ask(section, settings, target, drops, report)
    if not quiet:
        print_funnel(found)
        for reason, count in lost.items():
            typer.echo(f"{count:,} traces were not read: {reason.replace('_', ' ')}")
        typer.echo(f"kept traces: {target}")


def _settings(
    steps: str | None, selection: str | None, verifiers: list[str] | None
) -> FilterSection:
    import yaml

    from tracestill.recipe.filter import FilterSection
    from tracestill.recipe.rules import read_verifiers
    from tracestill.recipe.yaml_values import read_yaml

    own = {"verifiers": read_verifiers(verifiers)}
    if steps is not None and selection is not None:
        raise ValueError("--steps: say it or --selection, not both")
    if steps is None:
        return _checked(FilterSection, {"selection": selection, **own})
    try:
        listed = read_yaml(steps)
    except yaml.YAMLError as error:
        raise ValueError(f"--steps {steps}: it is not YAML") from error
    # One step by its name or with its settings needs no brackets.
    return _checked(
        FilterSection, {"steps": listed if isinstance(listed, list) else [listed], **own}
    )


def _checked(section: type[S], values: dict[str, Any]) -> S:
    """A section of these values; its first mistake in a line."""
    from pydantic import ValidationError

    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {said}" if where else said) from error
