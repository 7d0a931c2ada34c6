"""What the stages of a training select of the kept traces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.recipe.schema import Recipe
from tracestill.records import StageTrace, read_table, write_table

if TYPE_CHECKING:
    from filter.filtering import Filtered

STAGES = "stages"


def write_stages(recipe: Recipe, found: Filtered, folder: Path) -> dict[str, Any]:
    """Write the filter's table of what each stage selects, if any does.

    Returns:
        The table's shards by its name; empty without one.

    Raises:
        ValueError: a stage selects nothing of what is kept.

    """
    if not recipe.finetune.selections:
        return {}
    selected = found.stages()
    for number, ids in enumerate(selected, 1):
        if found.kept and not ids:
            raise ValueError(
                f"finetune.stages: the selection number {number} leaves none of the "
                f"{found.kept:,} kept traces; widen it, or leave that stage out"
            )
    rows = (
        StageTrace(trace_id=trace, stage=number)
        for number, ids in enumerate(selected)
        for trace in ids
    )
    return {STAGES: write_table(folder, STAGES, StageTrace, rows)}


def stage_traces(recipe: Recipe, run: Path) -> list[frozenset[str] | None]:
    """For each stage of the training the ids of its traces, None where it takes all; empty for a
    training without stages.

    Raises:
        ValueError: the stage filter is not complete, or a shard is damaged.

    """
    selected: list[set[str]] = [set() for _ in recipe.finetune.selections]
    if selected:
        for row in read_table(run / "filter", STAGES, StageTrace):
            selected[row.stage].add(row.trace_id)
    of_stage = iter(selected)
    return [
        None if stage.select is None else frozenset(next(of_stage))
        for stage in recipe.finetune.stages
    ]
