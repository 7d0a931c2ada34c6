"""Tables of evaluations, as `tracestill evaluate MODEL` and `tracestill compare` print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from tracestill.evaluate.evaluated import Compared, Evaluated
    from tracestill.records.figures import ModelFigures, Rate


def print_evaluated(done: Sequence[Evaluated], out: Path) -> None:
    """A table with a row for each benchmark, and what its number of problems can show."""
    from rich.console import Console

    from tracestill.evaluate.evaluated import RESULTS

    console = Console(highlight=False, soft_wrap=True)
    table = _table(["benchmark", *_HEADS])
    for one in done:
        table.add_row(one.benchmark, *_cells(one.figures))
    console.print(f"[bold]{done[0].model}[/]")
    console.print(table)
    console.print()
    for one in done:
        console.print(f"{one.benchmark}: {can_show(one.figures)}", markup=False)
        for note in one.notes:
            console.print(f"  {note}", markup=False)
    console.print(f"\nin {out / RESULTS}", markup=False)


def print_compared(found: Mapping[str, Sequence[Compared]]) -> None:
    """A table for each benchmark, each model beside the first."""
    from rich.console import Console

    from tracestill.evaluate.evaluated import asked_otherwise

    console = Console(highlight=False, soft_wrap=True)
    for benchmark, rows in found.items():
        console.print(f"[bold]{benchmark}[/]")
        table = _table(["model", *_HEADS[:2], "tokens", "points from the first", "p"])
        for row in rows:
            figures, apart = row.evaluated.figures, row.difference
            said, p = ("the first" if row is rows[0] else "no problem in common"), ""
            if apart is not None:
                low, high = (f"{100 * end:+.1f}" for end in apart.ci95)
                shown = "" if apart.shown else ", no difference shown"
                said = f"{100 * apart.difference:+.1f} ({low} to {high}){shown}"
                p = f"{apart.p:.3f}" if apart.p >= 0.001 else "<0.001"
            cells = _cells(figures)
            table.add_row(
                row.evaluated.model, cells[0], cells[1], f"{figures.mean_tokens:,.0f}", said, p
            )
        console.print(table)
        both = {row.difference.problems for row in rows if row.difference is not None}
        everything = {row.evaluated.figures.problems for row in rows}
        if both and both != everything:
            console.print(f"  compared on {_ranged(both)} problems that both answered")
        for line in asked_otherwise([row.evaluated for row in rows]):
            console.print(f"  note: {line}", markup=False)
        console.print()


def _ranged(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def can_show(figures: ModelFigures) -> str:
    """What an evaluation of this many problems tells, and what it does not."""
    low, high = figures.ci95
    half = 100 * (high - low) / 2
    each = figures.samples / figures.problems
    many = "one answer each" if each == 1 else f"{each:.3g} answers each"
    return (
        f"{figures.problems:,} problems, {many}: known to about ±{half:.1f} points. "
        f"A difference between two models smaller than that needs `tracestill compare`, which "
        "pairs them by problem, or more problems"
    )


_HEADS = ("pass@1 (95% interval)", "problems", "pass@k", "cons@k", "closed", "truncated", "loops",
          "failed", "tokens", "pass@1 / 1k tokens")  # fmt: skip


def _cells(figures: ModelFigures) -> list[str]:
    low, high = figures.ci95
    most = max(figures.pass_at_k, default=0)
    each = figures.samples / figures.problems
    return [
        f"{figures.pass_at_1:.1%} ({low:.1%} to {high:.1%})",
        f"{figures.problems:,}" + (f" x {each:.3g}" if each != 1 else ""),
        _rate(figures.pass_at_k.get(most), most),
        _rate(figures.cons_at_k, most),
        "" if figures.closed is None else f"{figures.closed:.1%}",
        f"{figures.truncated / figures.samples:.1%}",
        "" if figures.loops is None else f"{figures.loops / figures.samples:.1%}",
        f"{figures.failed:,}",
        f"{figures.mean_tokens:,.0f}",
        "" if figures.per_thousand_tokens is None else f"{figures.per_thousand_tokens:.3g}",
    ]


def _rate(rate: Rate | None, k: int) -> str:
    return "" if rate is None else f"{rate.rate:.1%} (k={k})"


def _table(heads: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", overflow="fold")
    return table
