"""The kept traces of a run as a folder that is a data set of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from tracestill.explore.dataset_card import Contents, dataset_card
from tracestill.recipe.generate import ServedTeacher
from tracestill.recipe.models import Redact, ServedModel
from tracestill.recipe.schema import Recipe
from tracestill.records import Kept, Problem, read_manifest, read_table, write_atomic, write_table
from tracestill.stages.examples import content, example_of_row, kept_rows


def check_kept(run: Path) -> int:
    """How many traces a run has kept.

    Raises:
        ValueError: its filter is not finished, or kept nothing.

    """
    manifest = read_manifest(run / "filter")
    if manifest is None:
        raise ValueError(f"{run} has no filtered traces yet: `tracestill filter RECIPE` makes them")
    if not manifest.rows_out:
        raise ValueError(
            f"the filter of {run} kept none of {manifest.rows_in:,} traces, so there is nothing to "
            "push: filter/funnel.json says which step dropped them"
        )
    return manifest.rows_out


def write_dataset(
    recipe: Recipe, run: Path, folder: Path, licence: str | None, repository: str
) -> None:
    """Write the kept traces into `folder`: Parquet files in `data/`, and a card in README.md. Where
    the recipe masks what it sends, what is private is masked here too.

    Raises:
        ValueError: the filter is not finished, a shard is damaged, or a pattern of the user's takes
            too long.

    """
    mask = _mask(recipe, run)
    contents = Contents(masked=mask is not None)

    def counted() -> Iterator[Kept]:
        for kept in kept_rows(recipe, run):
            contents.traces.add(kept.trace_id)
            contents.problems.add(kept.problem_id)
            contents.sources[kept.source] += 1
            contents.languages[kept.language] += 1
            yield mask(kept) if mask else kept

    write_table(folder / "data", "train", Kept, counted())
    card = dataset_card(recipe, run, contents, licence, repository)
    redact = _redact(recipe)
    if redact is not None:  # a system prompt may say what a problem may say
        from generate.redact import redactor

        (card,) = redactor(redact)(card).texts
    write_atomic(folder / "README.md", card.encode())


def _redact(recipe: Recipe) -> Redact | None:
    """What the recipe masks of what it sends to a teacher or to a judge."""
    for asked in (recipe.generate, recipe.filter.judge):
        if isinstance(asked, ServedModel) and asked.redact is not None:
            return asked.redact
    return None


def _mask(recipe: Recipe, run: Path) -> Callable[[Kept], Kept] | None:
    """A function that masks the texts of a row, all together, so that a placeholder stands for the
    same original in each; None where the recipe masks nothing.
    """
    from generate.redact import redactor, restore

    redact = _redact(recipe)
    if redact is None:
        return None
    mask, teacher = redactor(redact), recipe.generate
    system = (teacher.system_prompt or "") if isinstance(teacher, ServedTeacher) else ""
    prompts = {p.id: p.prompt for p in read_table(run / "problems", "train", Problem)}

    def masked(row: Kept) -> Kept:
        # The originals first: traces may have placeholders where the reference has none.
        prompt = prompts[row.problem_id]
        originals = mask(system, prompt).originals
        parts = (restore(text, originals) for text in (row.reasoning, row.answer, row.reference))
        _, prompt, reasoning, answer, reference = mask(system, prompt, *parts).texts
        made = dataclasses.replace(
            row, prompt=prompt, reasoning=reasoning, answer=answer, reference=reference
        )
        return dataclasses.replace(made, content=content(example_of_row(made)))

    return masked
