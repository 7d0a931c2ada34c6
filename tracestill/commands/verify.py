"""`tracestill verify`: judge the answers in a file."""

from __future__ import annotations

import contextlib
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from tracestill.commands.options import Columns, Quiet, Verifiers, read_columns
from tracestill.records import Outcome


def verify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows to judge: .jsonl, .parquet.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The same rows with verdicts.")],
    column: Columns = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="The kind of rows that name none: math, choice, …")
    ] = None,
    sandbox: Annotated[
        str,
        typer.Option("--sandbox", help="Where programs run: bubblewrap, piston=URL, … or e2b."),
    ] = "bubblewrap",
    verifier: Verifiers = None,
    quiet: Quiet = False,
) -> None:
    """Judge answers in a file: rows of id, kind, reference and completion."""
    from tracestill.evaluate.verify_file import verify_file
    from tracestill.recipe.rules import read_rules, read_verifiers

    names = read_columns(column, "completion")
    rules = read_rules(sandbox, read_verifiers(verifier))
    with _show_rows(quiet) as progress:
        counts = verify_file(source, target, names, kind, progress, rules)
    if not quiet:
        _print_outcomes(counts, target)


@contextlib.contextmanager
def _show_rows(quiet: bool) -> Iterator[Callable[[int], None]]:
    """A function that shows how many rows are done, where there is a terminal to show it on."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda rows: progress.update(task, completed=rows)


def _print_outcomes(counts: Counter[Outcome], target: Path) -> None:
    """A line for each outcome, and where the rows lie."""
    total = counts.total()
    for outcome in typing.get_args(Outcome):
        share = counts[outcome] / total if total else 0.0
        print(f"{outcome:<13} {counts[outcome]:>9,}  {share:6.1%}")
    print(f"{'rows':<13} {total:>9,}  in {target}")
