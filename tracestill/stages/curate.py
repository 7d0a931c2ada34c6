"""The filter's steps on files of traces, without a run."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.recipe.filter import FilterSection
from tracestill.recipe.generate import ImportTeacher
from tracestill.records import Drop, Kept, OnProgress, Problem
from tracestill.records.row_file import write_rows
from tracestill.stages.examples import kept_row

if TYPE_CHECKING:
    from filter.filtering import Filtered


def curate(
    section: ImportTeacher,
    settings: FilterSection,
    kept: Path,
    drops: Path | None,
    progress: OnProgress,
) -> tuple[Filtered, Counter[str]]:
    """Ask the steps about the traces that `section` says where to find. Writes those that are kept
    to `kept`, as the filter's table of that name has them, and to `drops` why the others are not;
    both end in .parquet or .jsonl.

    Returns:
        What the filter found (its tables are no longer there), and how many traces could not be
        read or came twice.

    Raises:
        ValueError: the traces can't be read, or a step needs a student, which a recipe has.

    """
    from filter.filtering import filter_table
    from filter.table import write_texts
    from generate.importing import import_traces, walk

    if settings.asks_student:
        raise ValueError(
            "--steps: a step depends on the student: name one in a recipe, and use `tracestill "
            "filter RECIPE`"
        )
    lost: Counter[str] = Counter()
    problems: dict[str, Problem] = {}
    for row in walk(section, []):
        if row.status == "new" and row.problem is not None:
            problems[row.problem.id] = row.problem
    with tempfile.TemporaryDirectory() as temporary:
        traces = write_texts(
            Path(temporary) / "traces.parquet", import_traces(section, walk(section, []), lost)
        )
        found = filter_table([traces], problems, [], settings, Path(temporary) / "parts", progress)
        made = kept_row()
        rows = (made(problems[text.problem_id], text) for text in found.kept_texts())
        write_rows(kept, Kept, rows)
        if drops is not None:
            write_rows(drops, Drop, found.drops())
    return found, lost
