"""`tracestill score`: how well traces suit the student, before anything is trained."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracestill.commands.options import Out, Quiet, RecipePath, Set, read_recipe, run_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracestill.stages.scores import Suitability


def score(
    recipe: RecipePath,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]…", help="Runs to compare; by default the recipe's own."),
    ] = None,
    set_: Set = None,
    out: Out = None,
    traces: Annotated[
        int, typer.Option("--traces", min=1, help="Of so many traces of each teacher.")
    ] = 200,
    local: Annotated[
        bool, typer.Option("--local", help="Local naturalness too, which takes three passes more.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Each trace's scores: .parquet or .jsonl."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say how well traces suit the recipe's student (rank-surprisal ratio; lower is better)."""
    from tracestill.commands.terminal import show_bar
    from tracestill.records.row_file import check_ending, write_rows
    from tracestill.stages.scores import ScoreRow, score_runs

    if write is not None:
        check_ending("--write", write)
    loaded = read_recipe(recipe, set_)
    own = run_folder(loaded, out)
    _quieten()
    with show_bar("scoring", quiet) as report:
        rows, scores = score_runs(
            loaded, runs or [own], own / "filter", traces, report, local=local
        )
    if write is not None:
        write_rows(write, ScoreRow, map(ScoreRow.of, scores))
    _print(rows, loaded.finetune.student)


def _quieten() -> None:
    """Without what libraries say while a model is loaded."""
    from transformers.utils import logging as transformers_logging

    # That there are faster kernels than those which a CPU has.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _print(rows: Sequence[Suitability], student: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from tracestill.records.content import model_name

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    names = ["teacher", "source", "traces", "correct", "tokens", "surprisal", "rsr"]
    if any(row.local is not None for row in rows):
        names.append("local")
    for name in names:
        table.add_column(
            name, justify="left" if name in ("teacher", "source") else "right", overflow="fold"
        )
    for row in rows:
        cells = [
            row.teacher, row.source, f"{row.traces:,}",
            "" if row.correct is None else f"{row.correct:.0%}",
            f"{row.tokens:,.0f}", f"{row.surprisal:.3f}", f"{row.rsr:.2f}",
            "" if row.local is None else f"{row.local:.3f}",
        ]  # fmt: skip
        table.add_row(*cells[: len(names)], style="" if row.source == "all" else "dim")
    console = Console(highlight=False)
    console.print(f"for the student {model_name(student)}; a lower rsr suits it better\n")
    console.print(table)
