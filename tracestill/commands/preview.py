"""`tracestill preview`: see samples as the student will learn them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracestill.commands.options import Out, RecipePath, Set, read_recipe, run_folder

if TYPE_CHECKING:
    from rich.console import Console

    from finetune.render import Rendered
    from finetune.sample import Sample
    from tracestill.planning.preview import Preview
    from tracestill.recipe.schema import Recipe

_STYLES: dict[str, str] = {
    "prompt": "dim", "reasoning": "yellow", "answer": "green", "stop": "bold red",
}  # fmt: skip
# What stands in their place where there is no colour.
_MARKS: dict[str, str] = {
    "prompt": "", "reasoning": "⟦reasoning⟧", "answer": "⟦answer⟧", "stop": "⟦stop⟧",
}  # fmt: skip
_SHOWN = 1_200  # characters of a long part, at its beginning and at its end


def preview(
    recipe: RecipePath,
    set_: Set = None,
    out: Out = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="How many, from short to long ones.")
    ] = 3,
    trace: Annotated[
        str | None, typer.Option("--trace", metavar="ID", help="This one, and all of it.")
    ] = None,
) -> None:
    """Show samples as the student will learn them, and check all of them; nothing is trained."""
    from tracestill.planning.preview import preview as render

    loaded = read_recipe(recipe, set_)
    _print(render(loaded, run_folder(loaded, out), samples, trace), loaded)


def _print(seen: Preview, recipe: Recipe) -> None:
    """The contract, the samples and their numbers; without colour, marks stand where each learnt
    part begins.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    plain = console.no_color or console.color_system is None
    settings = recipe.finetune
    console.print(f"Student: {settings.student}", markup=False)
    template, contract = Path(settings.template).name, seen.rendered.contract
    console.print(f"Template: {template}: {contract.described()}", markup=False)
    for note in seen.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"Samples: from {seen.origin}", markup=False)
    console.print(_legend(plain))
    for sample in seen.shown:
        _print_sample(console, seen, sample, plain, whole=len(seen.shown) == 1)
    console.print()
    if seen.real:  # a made-up trace says nothing of lengths
        for line in _numbers(seen.rendered, recipe):
            console.print(line, markup=False)
    many = len(seen.rendered.samples)
    which = "It passes" if many == 1 else f"All {many:,} pass"
    console.print(f"{which} the checks that are made before the first step.")


def _legend(plain: bool) -> Any:
    from rich.text import Text

    if plain:
        return Text("Learnt is what follows ⟦reasoning⟧, ⟦answer⟧ and ⟦stop⟧; the rest is prompt.")
    legend = Text("Not learnt: ")
    legend.append("prompt", _STYLES["prompt"])
    legend.append("; learnt: ")
    for part in ("reasoning", "answer", "stop"):
        legend.append(part, _STYLES[part])
        legend.append("." if part == "stop" else ", ")
    return legend


def _print_sample(
    console: Console, seen: Preview, sample: Sample, plain: bool, *, whole: bool
) -> None:
    from rich.text import Text

    example = seen.examples[sample.trace_id]
    tokens: dict[str, int] = {}
    text = Text()
    from tracestill.planning.preview import parts

    for part, ids in parts(sample, seen.rendered.endings[0]):
        tokens[part] = len(ids)
        if plain:
            text.append(_MARKS[part])
        for piece, control in _pieces(ids, seen):
            style = f"{_STYLES[part]} bold" if control else _STYLES[part]
            text.append(piece if whole else _shortened(piece), style)
    about = " · ".join(filter(None, (example.source, example.language)))
    counts = ", ".join(f"{n:,} {part}" for part, n in tokens.items() if part != "stop")
    title = f"trace {sample.trace_id} · {about} · tokens: {counts}"
    console.print()
    if plain:
        console.print(f"--- {title}", markup=False)
    else:
        console.rule(Text(title), align="left", style="dim")
    console.print(text)


def _pieces(ids: Any, seen: Preview) -> Iterator[tuple[str, bool]]:
    """The text of ids, control tokens apart."""
    from finetune.encoding import decode

    for control, several in itertools.groupby(ids.tolist(), lambda token: seen.control.ids[token]):
        (text,) = decode(seen.tokenizer, [list(several)])
        yield text.replace("\x1b", "␛"), bool(control)  # a trace must not steer the terminal


def _shortened(text: str) -> str:
    if len(text) <= 3 * _SHOWN:
        return text
    left = len(text) - 2 * _SHOWN
    return f"{text[:_SHOWN]}\n⟦… {left:,} characters are not shown …⟧\n{text[-_SHOWN:]}"


def _numbers(rendered: Rendered, recipe: Recipe) -> Iterator[str]:
    """How much is learnt, how full the rows are, and what is left out."""
    from finetune.overlong import describe
    from finetune.packing import pack

    settings, samples = recipe.finetune, rendered.samples
    lengths = [len(sample.input_ids) for sample in samples]
    total = sum(lengths)
    reasoning = sum(sample.answer - sample.prompt for sample in samples)
    answer = sum(len(sample.input_ids) - sample.answer for sample in samples)
    many = "sample" if len(samples) == 1 else "samples"
    yield (
        f"{len(samples):,} {many}, {total:,} tokens: {(total - reasoning - answer) / total:.1%} "
        f"prompt, {reasoning / total:.1%} reasoning, {answer / total:.1%} answer; the longest has "
        f"{max(lengths):,}"
    )
    if settings.packing:
        rows = len(pack(lengths, settings.max_length))
        fill = total / (rows * settings.max_length)
        yield (
            f"Packed: {rows:,} {'row' if rows == 1 else 'rows'} of {settings.max_length:,} tokens, "
            f"{fill:.1%} filled"
        )
    yield from describe(rendered.overlong)
    for line in rendered.refused.lines():
        yield f"Left out: {line}"
