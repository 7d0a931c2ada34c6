"""What the filter would drop of a sample of the traces."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.recipe.schema import Recipe
from tracestill.records import OnProgress, Problem, read_table, table_files
from tracestill.records.decisions import decided_verdicts
from tracestill.stages.filter import filtered

if TYPE_CHECKING:
    from filter.filtering import Filtered


def funnel_of_sample(
    recipe: Recipe, run: Path, rows: int, progress: OnProgress
) -> tuple[Filtered, int]:
    """What the filter finds of about `rows` traces from all over the table, of which only the
    counts can be read, and how many traces there are in it. Nothing is written. What a judge or the
    agreement of samples would settle stays open.

    Raises:
        ValueError: the traces are not there yet.

    """
    from filter.table import sample_of

    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    files = table_files(run / "generate", "traces")
    with tempfile.TemporaryDirectory() as temporary:
        sample, total = sample_of(files, rows, Path(temporary) / "sample.parquet")
        settled = recipe.filter.model_copy(update={"agreement": None, "judge": None, "workers": 1})
        found = filtered(
            recipe.model_copy(update={"filter": settled}), run, problems, [sample],
            Path(temporary) / "parts", Path(temporary), progress, decided=decided_verdicts(run),
        )  # fmt: skip
        return found, total
