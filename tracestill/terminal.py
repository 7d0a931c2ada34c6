"""What a run looks like in a terminal: progress, the final table, a run's status."""

from __future__ import annotations

import contextlib
import json
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from finetune.overlong import describe
from tracestill.layout import REPORT, STAGES, Job, Stage
from tracestill.pipeline import Listener
from tracestill.records import Outcome

if typing.TYPE_CHECKING:
    from tracestill.finetune_plan import StudentPlan
    from tracestill.planning import Amount, Plan

_FEW = 32  # sampled problems, below which a plan says so
_NAMES = {"student_before": "base", "student_after": "student", "teacher": "teacher"}


def _detail(event: dict[str, Any]) -> str:
    """What else a stage reports, in a few words."""
    parts = []
    if event.get("tokens"):
        parts.append(f"{event['tokens']:,} tokens")
    if event.get("tokens_per_second"):
        parts.append(f"{event['tokens_per_second']:,.0f}/s")
    if event.get("verified") is not None:
        parts.append(f"{event['verified']:,} of {event['samples']:,} verified")
    if event.get("tokens_per_verified"):
        parts.append(f"{event['tokens_per_verified']:,.0f} tokens each")
    if event.get("cost"):
        parts.append(f"cost {event['cost']:,.2f}")
    if event.get("reused"):
        parts.append(f"{event['reused']:,} from the journal")
    if event.get("kept") is not None:
        parts.append(f"{event['kept']:,} kept")
    if event.get("loss") is not None:
        parts.append(f"loss {event['loss']:.3f}")
    return " · ".join(parts)


@contextlib.contextmanager
def show_progress(quiet: bool) -> Iterator[Listener]:
    """A listener that draws a bar for each stage; plain lines where there is no terminal."""
    if quiet:
        yield Listener(begin=lambda s: None, event=lambda s, e: None, end=lambda s, e: None)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
        disable=not sys.stdout.isatty(),
    )
    plain = not sys.stdout.isatty()
    bars: dict[Job, Any] = {}

    def begin(stage: Job) -> None:
        bars[stage] = progress.add_task(stage, total=None, detail="starting")

    def event(stage: Job, values: dict[str, Any]) -> None:
        if values.get("interrupted"):
            note = "stopping: finished work is being kept (Ctrl-C again to end it at once)"
            progress.update(bars[stage], detail=note)
        elif "done" in values:
            progress.update(
                bars[stage],
                completed=values["done"],
                total=values.get("total"),
                detail=_detail(values),
            )

    def end(stage: Stage, entry: dict[str, Any]) -> None:
        rows = max(1, entry["rows_out"])
        detail = "reused" if entry["reused"] else f"{entry['seconds']:.1f} s"
        progress.update(bars[stage], total=rows, completed=rows, detail=detail)
        if plain:
            print(f"{stage:<9} {entry['rows_in']:>7,} → {entry['rows_out']:>7,}  {detail}")
            sys.stdout.flush()

    with progress:
        yield Listener(begin=begin, event=event, end=end)


@contextlib.contextmanager
def show_rows(quiet: bool) -> Iterator[Callable[[int], None]]:
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


def print_outcomes(counts: Counter[Outcome], target: Path) -> None:
    """A line for each outcome, and where the rows lie."""
    total = counts.total()
    for outcome in typing.get_args(Outcome):
        share = counts[outcome] / total if total else 0.0
        print(f"{outcome:<13} {counts[outcome]:>9,}  {share:6.1%}")
    print(f"{'rows':<13} {total:>9,}  in {target}")


def print_summary(summary: dict[str, Any], run: Path) -> None:
    """The final table: stages and rows, then what distilling did."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("stage")
    for name in ("rows in", "rows out", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("dropped")
    for entry in summary["stages"]:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in entry["dropped"].items())
        rows = entry["rows_in"] or entry["rows_out"]
        table.add_row(
            entry["name"],
            f"{entry['rows_in']:,}" if rows else "",
            f"{entry['rows_out']:,}" if rows else "",
            "reused" if entry["reused"] else f"{entry['seconds']:.1f}",
            reasons,
        )
    console.print()
    console.print(table)
    for entry in summary["stages"]:
        if masked := entry["masked"]:
            counts = ", ".join(f"{n:,} {kind}" for kind, n in sorted(masked.items()))
            console.print(f"\nmasked in what {entry['name']} sent: {counts}")
        if entry["overlong"] and (said := describe(entry["overlong"])):
            console.print("\n" + "\n".join(said))
    for entry in summary["stages"]:
        for finding in entry["findings"]:
            console.print(f"\n{entry['name']}: {finding}", markup=False)
    results = summary["evaluate"]
    if results:
        console.print()
        console.print("[bold]pass@1 on held-out problems")
        for name, result in results.items():
            low, high = result["ci95"]
            console.print(
                f"  {_NAMES.get(name, name):<8} [bold]{result['pass_at_1']:6.1%}[/]  "
                f"(95% interval {low:.1%} to {high:.1%}, {result['problems']:,} problems)"
            )
    console.print(f"\n{summary['wall_seconds']:.0f} s in all, in {run}")
    if (run / REPORT).exists() and any(e["name"] == "report" for e in summary["stages"]):
        console.print(f"report: {run / REPORT}")


def print_plan(plan: Plan) -> None:
    """What sampling has taken, and what it will take."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"{plan.problems:,} problems, {plan.sampled:,} of them sampled"
        + (f", {plan.verified:.1%} of those with a verified trace" if plan.verified else "")
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("", "so far", "still to come", "95% interval", "budget"):
        table.add_column(name, justify="left" if not name else "right")
    units: dict[str, tuple[Amount, float | None, Callable[[float], str]]] = {
        "tokens": (plan.tokens, plan.budget.tokens, lambda value: f"{value:,.0f}"),
        "money": (plan.money, plan.budget.money, lambda value: f"{value:,.2f}"),
        "hours": (plan.hours, plan.budget.hours, lambda value: f"{value:,.3g}"),
        "disk": (plan.disk, None, _bytes),
    }
    for name, (amount, limit, show) in units.items():
        total = amount.spent + amount.estimate
        table.add_row(
            name,
            show(amount.spent),
            show(amount.estimate),
            f"{show(amount.low)} to {show(amount.high)}",
            "" if limit is None else f"{show(limit)}: {min(1.0, limit / max(total, 1e-9)):.0%}",
        )
    console.print(table)
    if plan.sampled < _FEW:
        console.print(f"Few problems are sampled: --pilot {_FEW} tells more of rare, long traces.")


def print_student(student: StudentPlan) -> None:
    """Whether the training fits, what takes the memory, how long it lasts, what to change."""
    import dataclasses

    from rich.console import Console
    from rich.table import Table

    from finetune.planner.choose import size
    from finetune.planner.plan import NAMES, hints

    console = Console(highlight=False, soft_wrap=True)
    plan = student.plan
    shape, settings, device = plan.job.shape, plan.settings, plan.job.device
    console.print(
        f"Student: {student.student}, {_count(shape.parameters)} weights, "
        f"{_count(plan.trained)} trained, on {device.name}"
    )
    verdict = "[green]it fits[/]" if plan.fits else "[red]it does not fit[/]"
    rows = f"{settings.micro_batch} of {settings.batch_size} rows of {plan.row_tokens:,} tokens"
    console.print(
        f"{verdict}: {size(plan.memory.total)} of the {size(plan.limit)} that can be used, with "
        f"{rows} at once"
    )
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for field in dataclasses.fields(plan.memory):
        if amount := getattr(plan.memory, field.name):
            table.add_row(NAMES[field.name], size(amount))
    console.print(table)
    for line in plan.why:
        console.print(f"auto: {line}", markup=False)
    console.print(_speed(student))
    if plan.tokens:
        epoch = round(plan.tokens / settings.epochs)
        for line in [*hints(settings, plan.trained, epoch), *settings.warnings()]:
            console.print(f"note: {line}", markup=False)
    if plan.changes:
        console.print(
            "\nTo make it fit, set one of:" if len(plan.changes) > 1 else "\nTo make it fit:"
        )
    elif not plan.fits:
        console.print("\nNo change makes it fit: take a smaller student or a larger GPU.")
    for change in plan.changes:
        lost = f", {change.dropped:,} samples too long for it" if change.dropped else ""
        hours = f", {_time(plan.hours * change.times)}" if plan.hours else ""
        console.print(
            f"  {change.text}  [dim]{size(change.memory)}, "
            f"{change.times:.2f} times as long{hours}{lost}[/]"
        )


def _speed(student: StudentPlan) -> str:
    """What is known of how long it lasts, in a line."""
    plan = student.plan
    if plan.tokens_per_second is None:
        return "speed: not known of such a device; name it, as --gpu 'RTX 4090', to see tokens/s"
    rate = f"speed: about {plan.tokens_per_second:,.0f} tokens/s"
    if plan.mfu is not None and plan.mfu >= 0.01 and plan.job.device.cuda:
        rate += f" ({plan.mfu:.0%} MFU)"
    measured = "measured by a probe" if plan.job.calibration else "assumed, no probe has run"
    if plan.hours is None:
        million = 1e6 / plan.tokens_per_second / 3600
        return f"{rate}, {_time(million)} a million tokens; {measured}"
    return (
        f"{rate}, {_time(plan.hours)} for {plan.settings.epochs:g} epochs of "
        f"{student.samples:,} samples ({student.source}); {measured}"
    )


def _time(hours: float) -> str:
    return f"{hours:,.3g} hours" if hours >= 1 else f"{hours * 60:.2g} minutes"


def _count(value: float) -> str:
    """How many weights, for people."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def print_status(run: Path) -> None:
    """Which stages of a run are complete, and how far the others are."""
    from rich.console import Console
    from rich.table import Table

    from tracestill.records import check_shards, read_manifest

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("stage", "state", "rows in", "rows out", "seconds"):
        table.add_column(name, justify="left" if name in ("stage", "state") else "right")
    for stage in STAGES:
        try:
            manifest = read_manifest(run / stage)
            if manifest is not None:
                check_shards(run / stage, manifest)
        except ValueError as error:
            table.add_row(stage, f"[red]damaged[/]: {error}")
            continue
        if manifest is None:
            table.add_row(stage, _unfinished(run / stage))
        else:
            table.add_row(
                stage, "[green]complete", f"{manifest.rows_in:,}", f"{manifest.rows_out:,}",
                f"{manifest.seconds:.1f}",
            )  # fmt: skip
    Console(highlight=False).print(table)


def _unfinished(folder: Path) -> str:
    """How far a stage without a manifest is."""
    rows = sum(
        file.read_bytes().count(b"\n") for file in folder.glob("*journal.jsonl") if file.is_file()
    )
    if rows:
        return f"unfinished, {rows:,} responses in the journal"
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    if lines:
        return f"unfinished, {json.loads(lines[-1]).get('step')} steps done"
    return "unfinished" if folder.is_dir() else "not begun"
