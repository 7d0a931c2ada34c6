"""Tables of evaluations, as `tracestill evaluate MODEL` and `tracestill compare` print them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tracestill.evaluate.evaluated import Compared, Evaluated
    from tracestill.evaluate.published import Published
    from tracestill.records.figures import ModelFigures
    from tracestill.records.rates import PassAt1, Rate


def print_evaluated(done: Sequence[Evaluated], out: Path) -> None:
    """How often the model is right, what its answers are like, and what so many problems show."""
    from tracestill.evaluate.evaluated import RESULTS

    console = _console()
    right = _table(["", "pass@1", "95% interval", "problems", "pass@k", "cons@k"])
    like = _table(
        ["", "closed", "truncated", "loops", "failed", "tokens", "pass@1 per 1,000 tokens"]
    )
    for one in done:
        figures = one.figures
        most = max(figures.pass_at_k, default=0)
        right.add_row(
            one.benchmark, f"{figures.pass_at_1:.1%}", _interval(figures), _problems(figures),
            _rate(figures.pass_at_k.get(most), most), _rate(figures.cons_at_k, most),
        )  # fmt: skip
        like.add_row(one.benchmark, *_manner(figures))
    console.print(f"[bold]{done[0].model}[/]")
    console.print(right)
    console.print()
    console.print(like)
    console.print()
    for one in done:
        console.print(f"{one.benchmark}: {can_show(one.figures)}", markup=False)
        if one.figures.instructions is not None:
            console.print(
                f"  of all instructions {one.figures.instructions:.1%} are followed; pass@1 counts "
                "answers that follow all of theirs"
            )
        for note in one.notes:
            console.print(f"  {note}", markup=False)
    console.print("`tracestill compare` tells smaller differences, since it pairs the problems.")
    console.print(f"\nin {out / RESULTS}", markup=False)


def print_compared(
    found: Mapping[str, Sequence[Compared]], published: Mapping[str, Sequence[Published]]
) -> None:
    """A table for each benchmark, each model beside the first, and below them what others
    published of it, with its sources.
    """
    from tracestill.evaluate.evaluated import asked_otherwise

    console = _console()
    for benchmark, rows in found.items():
        console.print(f"[bold]{benchmark}[/]")
        table = _table(["", "pass@1", "95% interval", "tokens", "points from the first", "p", ""])
        for row in rows:
            figures = row.evaluated.figures
            table.add_row(
                row.evaluated.model, f"{figures.pass_at_1:.1%}", _interval(figures),
                f"{figures.mean_tokens:,.0f}", *_apart(row),
            )  # fmt: skip
        others = published.get(benchmark, ())
        sources = list(dict.fromkeys((one.source, one.asked) for one in others))
        for one in others:
            number = sources.index((one.source, one.asked)) + 1
            rate = f"{one.pass_at_1:.1%}"
            table.add_row(one.model, rate, "not published", "", "", "", f"published ({number})")
        console.print(table)
        both = {row.difference.problems for row in rows if row.difference is not None}
        if both:
            low, high = min(both), max(both)
            said = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            console.print(f"compared on {said} problems that both answered")
        for line in asked_otherwise([row.evaluated for row in rows]):
            console.print(f"note: {line}", markup=False)
        for number, (source, asked) in enumerate(sources, 1):
            console.print(f"({number}) {source}: {asked}", markup=False)
        if sources:
            console.print(
                "Published figures are others' own: with other prompts, extraction of answers and "
                "versions of the benchmark, so points between them and yours are no comparison."
            )
        console.print()


def _apart(row: Compared) -> tuple[str, str, str]:
    if row.first:
        return "", "", "the first"
    if row.difference is None:
        return "", "", "no problem in common"
    low, high = (f"{100 * end:+.1f}" for end in row.difference.ci95)
    p = f"{row.difference.p:.3f}" if row.difference.p >= 0.001 else "<0.001"
    said = "" if row.difference.shown else "no difference shown"
    return f"{100 * row.difference.difference:+.1f} ({low} to {high})", p, said


def can_show(figures: ModelFigures) -> str:
    """What an evaluation of this many problems tells, and what it does not."""
    low, high = figures.ci95
    half = 100 * (high - low) / 2
    return (
        f"{_problems(figures)} answers tell pass@1 to about ±{half:.1f} points; a difference "
        "between two models that is smaller may be chance"
    )


def _interval(figures: PassAt1) -> str:
    low, high = figures.ci95
    return f"{low:.1%} to {high:.1%}"


def _problems(figures: PassAt1) -> str:
    return f"{figures.problems:,} x {figures.samples / figures.problems:.3g}"


def _manner(figures: ModelFigures) -> list[str]:
    return [
        "" if figures.closed is None else f"{figures.closed:.1%}",
        f"{figures.truncated / figures.samples:.1%}",
        "" if figures.loops is None else f"{figures.loops / figures.samples:.1%}",
        f"{figures.failed:,}",
        f"{figures.mean_tokens:,.0f}",
        "" if figures.per_thousand_tokens is None else f"{figures.per_thousand_tokens:.3g}",
    ]


def _rate(rate: Rate | None, k: int) -> str:
    return "" if rate is None else f"{rate.rate:.1%} (k={k})"


def _console() -> Console:
    """The terminal; a file or pipe is as wide as the tables need."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    return Console(highlight=False, soft_wrap=True, width=width)


def _table(heads: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, head in enumerate(heads):
        text = number == 0 or not head  # names and remarks; the others are numbers
        table.add_column(
            head, justify="left" if text else "right", no_wrap=not text, overflow="fold"
        )
    return table
