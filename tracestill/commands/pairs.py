"""`tracestill pairs`: preference pairs of a run's traces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracestill.commands.options import RunPath

if TYPE_CHECKING:
    from tracestill.stages.pairs import PairFigures

_MUCH = 1.25  # from which ratio of mean lengths on a student may learn length alone


def pairs(
    run: RunPath,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=".parquet or .jsonl; RUN/pairs.parquet."),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="correct_over_incorrect, correct_over_truncated or shorter_over_longer; "
            "repeatable, in order. The first by default.",
        ),
    ] = None,
    per_problem: Annotated[
        int, typer.Option("--per-problem", min=1, help="At most so many pairs of a problem.")
    ] = 1,
    max_ratio: Annotated[
        float | None,
        typer.Option(
            "--max-ratio", min=1,
            help="How many times longer one trace of a pair may be than the other.",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Write pairs of a better and a worse trace of a problem, for trl's DPOTrainer."""
    from transformers.utils import logging

    from filter.pairs import RULES, read_rules
    from tracestill.recipe.loading import recipe_of_run
    from tracestill.stages.pairs import write_pairs

    logging.set_verbosity_error()
    recipe = recipe_of_run(run)
    target = out or run / "pairs.parquet"
    rules = read_rules(rule) if rule else RULES[:1]
    figures = write_pairs(recipe, run, target, rules, per_problem, max_ratio)
    for line in _lines(figures, target):
        typer.echo(line)


def _lines(figures: PairFigures, target: Path) -> list[str]:
    """What was written, what was not and why, and what to know of the lengths."""
    total, some = figures.pairs, len(figures.with_pairs)
    by_rule = ", ".join(f"{count:,} {rule}" for rule, count in figures.rules.most_common())
    lines = [
        f"{total:,} pairs ({by_rule}) of {some:,} of {figures.problems:,} problems, in {target}"
    ]
    if figures.lacking:
        said = ", ".join(f"{count:,} have {why}" for why, count in figures.lacking.items())
        lines.append(f"no pair: {said}")
    if figures.unlearnable:
        lines.append(
            f"left out: {figures.unlearnable:,} pairs with a text that the student can't learn"
        )
    chosen, rejected = figures.chosen_tokens / total, figures.rejected_tokens / total
    lines.append(
        f"mean completion tokens: {chosen:,.0f} chosen, {rejected:,.0f} rejected; the longest "
        f"text has {figures.longest:,} of the student's tokens, prompt included"
    )
    short, long = sorted((chosen, rejected))
    if long > _MUCH * short and set(figures.rules) != {"shorter_over_longer"}:
        which = "longer" if chosen > rejected else "shorter"
        lines.append(
            f"warning: the chosen are much {which} than the rejected, so a student may learn "
            f"length alone: bound it with --max-ratio, such as {_MUCH:g}"
        )
    if figures.changed:
        lines.append(
            f"warning: trl reads {figures.changed:,} of the texts as other tokens than the "
            "student's training does: its tokenizer adds tokens, or joins some of the prompt's end "
            "with the completion"
        )
    return lines + [f"note: {note}" for note in figures.notes]
