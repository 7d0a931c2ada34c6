"""What a run looks like in a terminal: progress, then the final table."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.records import OnProgress, Progress
from tracestill.records.layout import REPORT, Job
from tracestill.run.listener import SILENT, Listener
from tracestill.run.summary import StageSummary, Summary

if TYPE_CHECKING:
    from rich.console import Console

    from tracestill.run.rounds import Round

_NAMES = {"student_before": "base", "student_after": "student", "teacher": "teacher"}


def _detail(progress: Progress) -> str:
    """What else a stage reports, in a few words."""
    parts = []
    if progress.tokens:
        parts.append(f"{progress.tokens:,} tokens")
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:,.0f}/s")
    if progress.verified is not None:
        parts.append(f"{progress.verified:,} of {progress.samples or 0:,} verified")
    if progress.tokens_per_verified:
        parts.append(f"{progress.tokens_per_verified:,.0f} tokens each")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.cost:
        parts.append(f"cost {progress.cost:,.2f}")
    if progress.reused:
        parts.append(f"{progress.reused:,} from the journal")
    if progress.kept is not None:
        parts.append(f"{progress.kept:,} kept")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.accuracy is not None:
        parts.append(f"accuracy {progress.accuracy:.1%}")
    if progress.at_most:
        parts.append("steps at most")
    return " · ".join(parts)


@contextlib.contextmanager
def show_progress(quiet: bool, label: str | None = None) -> Iterator[Listener]:
    """A listener that draws a bar for each stage, which `label` names otherwise; plain lines where
    there is no terminal.
    """
    if quiet:
        yield SILENT
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    plain = not sys.stdout.isatty()
    shown = Bars(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
        disable=plain,
    )
    bars: dict[Job, Any] = {}

    def begin(job: Job) -> None:
        bars[job] = shown.add_task(label or job, total=None, detail="starting")

    def advance(job: Job, progress: Progress) -> None:
        shown.update(
            bars[job], completed=progress.done, total=progress.total, detail=_detail(progress)
        )

    def stopping(job: Job) -> None:
        note = "stopping: finished work is being kept (Ctrl-C again to end it at once)"
        shown.update(bars[job], detail=note)

    def end(entry: StageSummary) -> None:
        rows = max(1, entry.rows_out)
        detail = "reused" if entry.reused else f"{entry.seconds:.1f} s"
        shown.update(bars[entry.name], total=rows, completed=rows, detail=detail)
        if plain:
            print(f"{entry.name:<9} {entry.rows_in:>7,} → {entry.rows_out:>7,}  {detail}")
        for note in entry.notes:
            shown.console.print(f"{'':<10}{note}", markup=False, highlight=False, soft_wrap=True)
        sys.stdout.flush()

    with shown:
        yield Listener(begin=begin, progress=advance, stopping=stopping, end=end)


@contextlib.contextmanager
def show_bar(what: str, quiet: bool) -> Iterator[OnProgress]:
    """A bar for something that is no stage of a run, on standard error."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    hidden = quiet or not sys.stderr.isatty()
    with Bars(console=Console(stderr=True), disable=hidden, transient=True) as shown:
        bar = shown.add_task(what, total=None)
        yield lambda event: shown.update(bar, completed=event.done, total=event.total)


def print_summary(summary: Summary, run: Path) -> None:
    """The final table: stages and rows, then what distilling did."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("stage")
    for name in ("rows in", "rows out", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("dropped")
    for entry in summary.stages:
        rows = entry.rows_in or entry.rows_out
        table.add_row(
            entry.name,
            f"{entry.rows_in:,}" if rows else "",
            f"{entry.rows_out:,}" if rows else "",
            "reused" if entry.reused else f"{entry.seconds:.1f}",
            ", ".join(f"{count:,} {reason}" for reason, count in entry.dropped.items()),
        )
    console.print()
    console.print(table)
    if summary.evaluate:
        console.print()
        console.print("[bold]pass@1 on held-out problems")
    for name, result in summary.evaluate.items():
        low, high = result.ci95
        console.print(
            f"  {_NAMES.get(name, name):<8} [bold]{result.pass_at_1:6.1%}[/]  "
            f"(95% interval {low:.1%} to {high:.1%}, {result.problems:,} problems)"
        )
    if summary.forgetting:
        _print_forgetting(summary, console)
    console.print(f"\n{summary.seconds:.0f} s in all, in {run}")
    if any(entry.name == "report" for entry in summary.stages):
        console.print(f"report: {run / REPORT}")


def _print_forgetting(summary: Summary, console: Console) -> None:
    """What the student could of other things before its training, and what it can of them now."""
    from tracestill.evaluate.forgetting import change_of

    console.print("\n[bold]pass@1 on what was not taught, base and student")
    wide = max(map(len, summary.forgetting))
    for name, one in summary.forgetting.items():
        console.print(
            f"  {name:<{wide}}  {one.before.pass_at_1:6.1%} → {one.after.pass_at_1:6.1%}  "
            f"{change_of(one)} ({one.change.problems:,} problems)",
            markup=False, soft_wrap=True,
        )  # fmt: skip


def print_rounds(rounds: Sequence[Round], run: Path) -> None:
    """What each round's student is, and which is the best."""
    from rich.console import Console
    from rich.table import Table

    from tracestill.run.rounds import best

    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("round", "traces kept", "pass@1", "95% interval"):
        table.add_column(name, justify="right")
    for one in rounds:
        low, high = one.ci95
        interval = f"{low:.1%} to {high:.1%}"
        table.add_row(str(one.number), f"{one.kept:,}", f"{one.pass_at_1:.1%}", interval)
    console.print(table)
    chosen = best(rounds)
    student = run / chosen.folder / "finetune" / "merged"
    console.print(
        f"\nthe best is round {chosen.number}: {student}\n"
        "It was chosen by these problems, so its pass@1 on others may be a little lower."
    )
