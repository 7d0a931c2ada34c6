"""`tracestill export`: the student of a run in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tracestill.commands.options import RunPath

if TYPE_CHECKING:
    from rich.console import Console

    from tracestill.recipe.schema import Recipe
    from tracestill.records import Progress
    from tracestill.records.figures import GgufFigures, GgufFile

_PROMPTS = 20


def export(
    run: RunPath,
    to: Annotated[Literal["gguf"], typer.Option("--to", help="The format.")] = "gguf",
    quant: Annotated[
        str,
        typer.Option("--quant", metavar="A,B", help="Kinds of files, as llama.cpp names them."),
    ] = "q8_0,q4_k_m",
    problems: Annotated[
        int,
        typer.Option(
            "--problems", min=0,
            help="Held-out problems that each file answers, to tell what it loses of pass@1.",
        ),
    ] = 50,
) -> None:  # fmt: skip
    """Write a run's student for llama.cpp and Ollama, checked by llama.cpp."""
    from rich.console import Console
    from transformers.utils import logging

    from finetune.gguf import export_gguf
    from tracestill.explore.cards import llama_sampling, write_cards
    from tracestill.recipe.loading import recipe_of_run
    from tracestill.run.fingerprint import current
    from tracestill.run.pipeline import LINE

    merged = run / "finetune" / "merged"
    recipe = recipe_of_run(run)
    if not (merged / "config.json").is_file():
        raise ValueError(f"{run} has no student yet: `tracestill finetune RECIPE` makes it")
    kinds = [kind.strip().lower() for kind in quant.split(",") if kind.strip()]
    if not kinds:
        raise ValueError("--quant names no kind of file; write --quant q8_0,q4_k_m")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    console = Console(highlight=False, soft_wrap=True)
    folder = run / "finetune" / "gguf"
    with console.status("starting") as status:
        figures = export_gguf(
            merged, folder, kinds, _prompts(recipe, run), recipe.finetune, name=recipe.name,
            sampling=llama_sampling(recipe), on_step=status.update,
        )  # fmt: skip
    evaluated = current(LINE["evaluate"], "evaluate", recipe, run) is not None
    write_cards(recipe, run, evaluated=evaluated)
    if problems and evaluated and "student_after" in recipe.evaluate.models:
        figures = _measured(recipe, run, figures, problems, console)
        write_cards(recipe, run, evaluated=evaluated)
    elif problems:
        console.print(
            "pass@1 of the files was not measured, since the run has no evaluation of this student "
            "to compare it with: `tracestill evaluate RECIPE` makes one"
        )
    _show(figures, folder, recipe, console)


def _measured(
    recipe: Recipe, run: Path, figures: GgufFigures, problems: int, console: Console
) -> GgufFigures:
    """The figures with each file's pass@1, kept in the run after each."""
    from finetune.gguf import write_figures
    from tracestill.explore.load import load_run
    from tracestill.stages.quantised import measured

    student = load_run(run).results()["student_after"]
    count = min(problems, student.problems)
    tokens = count * recipe.evaluate.samples * student.mean_tokens
    minutes = sum(tokens / one.tokens_per_second for one in figures.files) / 60
    console.print(
        f"The files are made and checked. Each answers {count:,} held-out problems, at most about "
        f"{max(1, round(minutes)):,} min in all (Ctrl-C keeps the files and the answers, "
        "--problems 0 leaves this out)"
    )
    with console.status("starting") as status:

        def shown(one: GgufFile, progress: Progress) -> None:
            status.update(f"{one.kind}: {progress.done:,} of {progress.total or 0:,} answered")

        for made in measured(recipe, run, figures, problems, shown):
            figures = made
            write_figures(run / "finetune" / "gguf", figures)
    return figures


def _show(figures: GgufFigures, folder: Path, recipe: Recipe, console: Console) -> None:
    """The table of the files, then what to know and how to run the first."""
    from rich.table import Table

    from tracestill.explore.cards import lost, server_command

    made = next(filter(None, (one.pass_at_1 for one in figures.files)), None)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("kind", "MB", "logits\ndiffer", "same\nanswers", "ended"):
        table.add_column(title, justify="left" if title == "kind" else "right", no_wrap=True)
    if made:
        table.add_column("pass@1", justify="right", no_wrap=True)
        table.add_column(f"points from merged/'s\n{made.merged:.1%} (95% interval)", no_wrap=True)
    for one in figures.files:
        row = [
            one.kind, f"{one.bytes / 1e6:,.1f}", f"{one.logit_difference:.2%}",
            f"{one.same} of {one.answers}", f"{one.ended} of {one.answers}",
        ]  # fmt: skip
        table.add_row(*row, *(lost(one) if made else ()))
    console.print()
    console.print(table)
    console.print()
    for line in figures.findings:
        console.print(line, markup=False)
    first = figures.files[0].file
    console.print(f"In {folder}, with Ollama's Modelfile and a model card:", markup=False)
    console.print(f"  {server_command(str(folder / first), recipe)}", markup=False)


def _prompts(recipe: Recipe, run: Path) -> list[str]:
    """The shortest of the problems that the student learnt from."""
    from tracestill.stages.examples import kept_examples

    prompts = dict.fromkeys(one.prompt for one in kept_examples(recipe, run))
    return sorted(prompts, key=len)[:_PROMPTS]
