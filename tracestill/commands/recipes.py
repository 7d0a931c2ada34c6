"""`tracestill recipes`: the recipes that come with tracestill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finetune.planner import TrainingPlan
    from tracestill.planning.shipped import Shipped


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One of them, to read its page.")
    ] = None,
) -> None:
    """List the recipes that come with tracestill, or tell one's page: what it is, what it takes."""
    from tracestill.planning.shipped import names, shipped

    if name is not None:
        _print_page(shipped(name.removesuffix(".yaml")))
        return
    for each in names():
        _print_row(shipped(each))
    typer.echo("`tracestill recipes NAME` tells more, `tracestill new` writes one of your own.")


def _print_row(one: Shipped) -> None:
    from tracestill.planning.shipped import origin
    from tracestill.records.content import model_name

    gpu = one.about["GPU"].partition(",")[0].partition(";")[0].partition(":")[0]
    typer.echo(f"{one.recipe.name}: {one.recipe.description}")
    student = model_name(one.recipe.finetune.student)
    typer.echo(f"    student {student}; GPU {gpu}; traces {origin(one.recipe)}\n")


def _print_page(one: Shipped) -> None:
    from rich.console import Console
    from rich.table import Table

    from tracestill.planning.shipped import LABELS, origin
    from tracestill.records.content import model_name

    console = Console(highlight=False)
    console.print(f"{one.recipe.name}: {one.recipe.description}", markup=False)
    place = one.path.relative_to(Path.cwd()) if one.path.is_relative_to(Path.cwd()) else one.path
    console.print(f"{place}\n", markup=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for label in LABELS:
        table.add_row(label, _plain(one.about[label]))
    table.add_row("Traces", _plain(origin(one.recipe)))
    console.print(table)
    console.print("\nPlanned from sizes and settings alone, not measured:")
    for line in [*_sampling(one), *_training(one, model_name(one.recipe.finetune.student))]:
        console.print(f"  {line}", markup=False)
    plan = f"tracestill plan {place}" + (f" --gpu '{one.gpu}'" if one.gpu else "")
    console.print(f"\nNext: {plan}\n      tracestill run {place}", markup=False, soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _sampling(one: Shipped) -> Iterator[str]:
    from tracestill.planning.shipped import most_sampled

    bound = most_sampled(one.recipe)
    if bound is None:
        yield "teacher: nothing is sampled, and nothing is paid"
        return
    problems = "all problems" if bound.problems is None else f"{bound.problems:,} problems"
    tokens = "" if bound.tokens is None else f", so {bound.tokens / 1e6:,.0f} M tokens"
    yield f"teacher: at most {bound.samples} answers to each of {problems}{tokens} at most"
    if bound.money:
        yield f"money: {bound.money:,.2f} at most, in the currency of generate.prices"
    yield "hours of sampling: `tracestill plan` samples a few problems first, and tells"


def _training(one: Shipped, student: str) -> Iterator[str]:
    from tracestill.planning.shipped import training_plan

    if one.gpu is None:
        yield f"student: {student} learns on a CPU: `tracestill plan` measures how fast"
        return
    try:
        plan = training_plan(one.recipe, one.gpu)
    except ValueError as error:
        yield f"student: not planned: {error}"
        return
    yield _memory(plan)
    if plan.tokens_per_second:
        hours = 1e8 / plan.tokens_per_second / 3600
        yield f"hours of training: {hours:,.1f} for 100 M tokens, those of all epochs together"
    weights = 2 * (plan.job.shape.parameters + plan.job.shape.beside) / 1e9
    yield (
        f"disk: {weights:,.1f} GB for the student's weights, as much for the merged student; a "
        "teacher's weights and checkpoints beside"
    )


def _memory(plan: TrainingPlan) -> str:
    fits = "it fits" if plan.fits else "it does not fit"
    gpus = plan.settings.launch.gpus
    each = f"each of {gpus} {plan.job.device.name}" if gpus > 1 else plan.job.device.name
    return (
        f"student: on {each} {fits}: {plan.memory.total / 2**30:,.1f} of the "
        f"{plan.limit / 2**30:,.1f} GiB that can be used, rows of {plan.row_tokens:,} tokens"
    )
