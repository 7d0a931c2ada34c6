"""`tracestill plan`: what sampling the teacher and training the student will take."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracestill.commands.options import Out, Quiet, RecipePath, Set, read_recipe, run_folder
from tracestill.records.layout import RECIPE

if TYPE_CHECKING:
    from tracestill.planning.sampling import Amount, SamplingPlan
    from tracestill.planning.training import StudentPlan
    from tracestill.recipe.schema import Recipe

_FEW = 32  # sampled problems, below which a plan says so


def plan(
    recipe: RecipePath,
    set_: Set = None,
    out: Out = None,
    pilot: Annotated[
        int, typer.Option("--pilot", min=0, help="Sample so many problems first; 0: none.")
    ] = 32,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Go by what an earlier run took; no pilot."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="GPU", help="Where the student learns: 24GB, H200, …"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say what sampling the teacher and training the student will take, and whether it fits."""
    from tracestill.planning.training import plan_student
    from tracestill.recipe.generate import ImportTeacher
    from tracestill.run.errors import StageError

    loaded = read_recipe(recipe, set_)
    run = run_folder(loaded, out)
    if source is not None and not (source / RECIPE).is_file():
        raise ValueError(f"--from {source} is no run: it has no {RECIPE}")
    sampled = (source or run) / "generate" / "journal.jsonl"
    if isinstance(loaded.generate, ImportTeacher):
        typer.echo("Teacher: its traces are imported; nothing is sampled.\n")
    elif not pilot and not sampled.exists():
        typer.echo("Teacher: nothing is sampled yet to go by; --pilot 32 samples a few problems.\n")
    else:
        try:
            _plan_sampling(loaded, run, source, pilot, quiet)
        except (ValueError, StageError) as error:
            if not gpu:
                raise
            # Asked about another machine: what can't be sampled on this one is no obstacle.
            typer.echo(f"Teacher: not planned, since it can't be sampled here: {error}\n")
    try:
        with _waiting(quiet):
            planned = plan_student(loaded, run, source or run, gpu)
    except ValueError as error:
        if gpu:
            raise
        # The teacher's part stands; what the student's lacks is said, and is no failure.
        typer.echo(f"Student: {error}")
        return
    _print_student(planned)


def _plan_sampling(recipe: Recipe, run: Path, source: Path | None, pilot: int, quiet: bool) -> None:
    """Sample a pilot, or go by the run `source`, and print what sampling will take."""
    from tracestill.commands.terminal import show_progress
    from tracestill.planning.sampling import estimate
    from tracestill.run.pilot import run_pilot

    with show_progress(quiet) as listener:
        run_pilot(recipe, run, 0 if source else pilot, listener)
    _print_sampling(estimate(recipe, run, source or run))
    typer.echo()


def _waiting(quiet: bool) -> AbstractContextManager[object]:
    """What is shown while the student is traced or its speed is measured."""
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet)
    return console.status("Planning the student's training")


def _print_sampling(plan: SamplingPlan) -> None:
    """What sampling has taken, and what it will take."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"{plan.problems:,} problems, {plan.sampled:,} of them sampled"
        + (
            f", {plan.verified:.1%} of those with a verified trace"
            if plan.verified is not None
            else ""
        )
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
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)
    if plan.by < plan.problems and plan.hours.estimate:
        console.print(
            "Hours are at the rate so far, so at most: a whole run has more requests in flight."
        )
    if plan.by < min(_FEW, plan.problems):
        console.print(
            f"Only {plan.by} problems to go by: --pilot {_FEW} tells more of rare, long traces."
        )


def _print_student(student: StudentPlan) -> None:
    """Whether the training fits, what takes the memory, how long it lasts, what to change."""
    import dataclasses

    from rich.console import Console
    from rich.table import Table

    from finetune.curriculum import expected_epochs
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
    console.print(_speed(student), markup=False)
    for line in student.notes:
        console.print(f"note: {line}", markup=False)
    if plan.tokens:
        epoch = round(plan.tokens / expected_epochs(settings, plan.job.lengths))
        for line in [*hints(settings, device, plan.trained, epoch), *settings.warnings()]:
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
    from finetune.curriculum import expected_epochs
    from finetune.saturation import least_epochs

    plan = student.plan
    if plan.tokens_per_second is None:
        return "speed: not known of such a device; name it, as --gpu 'RTX 4090', to see tokens/s"
    rate = f"speed: about {plan.tokens_per_second:,.0f} tokens/s"
    if plan.mfu is not None and plan.mfu >= 0.01 and plan.job.device.cuda:
        rate += f" ({plan.mfu:.0%} MFU)"
    if plan.hours is None:
        million = 1e6 / plan.tokens_per_second / 3600
        return f"{rate}, {_time(million)} a million tokens; {student.speed}"
    most = expected_epochs(plan.settings, plan.job.lengths)
    lasts = f"{_time(plan.hours)} for {most:g} epochs"
    if plan.settings.epochs == "auto":
        least = least_epochs(plan.settings.most_epochs)
        lasts = (
            f"{_time(plan.hours * least / most)} to {_time(plan.hours)} for {least} to {most:g} "
            "epochs, as many as teach something,"
        )
    return f"{rate}, {lasts} of {student.samples:,} samples ({student.source}); {student.speed}"


def _time(hours: float) -> str:
    return f"{hours:,.3g} hours" if hours >= 1 else f"{hours * 60:.2g} minutes"


def _count(value: float) -> str:
    """How many weights, for people."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:  # else three digits round to 1e+03 of the next unit
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
