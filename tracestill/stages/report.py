"""report.html: what the run did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracestill.recipe.schema import Recipe
from tracestill.records import OnProgress, Progress, StageResult
from tracestill.records.layout import REPORT


def settings(recipe: Recipe) -> Any:
    """The section `report`."""
    return recipe.report.model_dump()


def make(recipe: Recipe, run: Path, progress: OnProgress) -> StageResult:
    """Write `report.html` into the run's folder."""
    from tracestill.explore.report import build

    build(run)
    progress(Progress(done=1, total=1))
    return StageResult(rows_in=0, rows_out=0, files=[f"../{REPORT}"])
