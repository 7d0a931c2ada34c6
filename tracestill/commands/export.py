"""`tracestill export`: the student of a run in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tracestill.commands.options import RunPath

if TYPE_CHECKING:
    from tracestill.recipe.schema import Recipe

_PROMPTS = 20


def export(
    run: RunPath,
    to: Annotated[Literal["gguf"], typer.Option("--to", help="The format.")] = "gguf",
    quant: Annotated[
        str,
        typer.Option("--quant", metavar="A,B", help="Kinds of files, as llama.cpp names them."),
    ] = "q8_0,q4_k_m",
) -> None:
    """Write a run's student for llama.cpp and Ollama, checked by llama.cpp."""
    from rich.console import Console
    from rich.table import Table

    from finetune.gguf import export_gguf
    from tracestill.explore.cards import write_cards
    from tracestill.recipe.loading import recipe_of_run
    from tracestill.run.fingerprint import current
    from tracestill.run.pipeline import LINE

    merged = run / "finetune" / "merged"
    recipe = recipe_of_run(run)
    if not (merged / "config.json").is_file():
        raise ValueError(f"{run} has no student yet: `tracestill finetune RECIPE` makes it")
    folder = run / "finetune" / "gguf"
    figures = export_gguf(
        merged, folder, [kind.strip().lower() for kind in quant.split(",") if kind.strip()],
        _prompts(recipe, run), recipe.finetune, name=recipe.name,
        sampling={"temperature": recipe.evaluate.temperature, "top_p": recipe.evaluate.top_p},
    )  # fmt: skip
    evaluated = current(LINE["evaluate"], "evaluate", recipe, run)
    write_cards(recipe, run, evaluated=evaluated is not None)
    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("file", "MB", "logits differ", "same answers", "ended"):
        table.add_column(title, justify="left" if title == "file" else "right")
    for one in figures.files:
        table.add_row(
            one.file, f"{one.bytes / 1e6:,.1f}", f"{one.logit_difference:.2%}",
            f"{one.same} of {one.answers}", f"{one.ended} of {one.answers}",
        )  # fmt: skip
    console.print(table)
    for line in figures.findings:
        console.print(line, markup=False)
    console.print(f"llama-server -m {folder / figures.files[0].file} --jinja", markup=False)


def _prompts(recipe: Recipe, run: Path) -> list[str]:
    """The shortest of the problems that the student learnt from."""
    from tracestill.stages.examples import kept_examples

    prompts = dict.fromkeys(one.prompt for one in kept_examples(recipe, run))
    return sorted(prompts, key=len)[:_PROMPTS]
