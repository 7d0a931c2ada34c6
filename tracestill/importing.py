"""The stages problems and generate of a run whose traces exist already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.records import Drop, Problem, Trace, read_table, write_table

if TYPE_CHECKING:
    from generate.config import ImportTeacher
    from generate.importing import Step
    from tracestill.recipe import Recipe

Progress = Callable[[dict[str, Any]], None]
_EVERY = 500  # rows between two reports of progress
_LISTED = 10_000  # unreadable rows that are listed with their reasons; all are counted


def import_problems(
    section: ImportTeacher, recipe: Recipe, run: Path, progress: Progress
) -> dict[str, Any]:
    """Write the data set's problems and the recipe's held-out ones.

    `unreadable` is a table of the rows that could not be read, by their place, with the reason.

    Raises:
        ValueError: the data can't be read, or hold no problem to distil from.

    """
    from generate.importing import walk
    from generate.problems import load_problems

    said, folder = recipe.problems.instruction, run / "problems"
    heldout, skipped = load_problems(recipe.problems.heldout, instruction=said)
    rows: Counter[str] = Counter()
    unreadable: list[Drop] = []

    def new() -> Iterator[Problem]:
        for step in _reported(walk(section, heldout, said), progress):
            rows[step.status] += 1
            if step.status == "new" and step.problem is not None:
                yield step.problem
            elif step.status == "unreadable" and len(unreadable) < _LISTED:
                unreadable.append(
                    Drop(trace_id=step.place, step="import", reason="unreadable", detail=step.wrong)
                )

    train = write_table(folder, "train", Problem, new())
    if not rows["new"]:
        why = f": {unreadable[0].trace_id}: {unreadable[0].detail}" if unreadable else ""
        raise ValueError(
            f"the data to import hold no problem to distil from: of {rows.total()} rows, "
            f"{rows['held_out']} are of held-out problems and {rows['unreadable']} can't be read"
            + why
        )
    dropped = skipped + Counter(
        same_problem=rows["more"], held_out=rows["held_out"], unreadable=rows["unreadable"]
    )
    kept = rows["new"] + len(heldout)
    return {
        "rows_in": kept + dropped.total(),
        "rows_out": kept,
        "dropped": {reason: count for reason, count in dropped.items() if count},
        "tables": {
            "train": train,
            "heldout": write_table(folder, "heldout", Problem, heldout),
            "unreadable": write_table(folder, "unreadable", Drop, unreadable),
        },
        "details": {"train": rows["new"], "heldout": len(heldout)},
    }


def import_traces(
    section: ImportTeacher, recipe: Recipe, run: Path, progress: Progress
) -> dict[str, Any]:
    """Write the data set's traces of the problems that were taken.

    Raises:
        ValueError: the data can't be read.

    """
    from generate.importing import import_traces as traces_of
    from generate.importing import walk

    heldout = list(read_table(run / "problems", "heldout", Problem))
    dropped: Counter[str] = Counter()
    totals = {"problems": 0, "tokens": 0, "uncounted": 0, "cost": 0.0, "length": 0, "error": 0}
    rows = 0

    def counted() -> Iterator[Trace]:
        nonlocal rows
        steps = _reported(walk(section, heldout, recipe.problems.instruction), progress)
        for trace in traces_of(section, steps, dropped):
            rows += 1
            totals["problems"] += trace.sample == 0
            totals["tokens"] += trace.completion_tokens
            totals["uncounted"] += trace.completion_tokens == 0
            if trace.finish in ("length", "error"):
                totals[trace.finish] += 1
            yield trace

    shards = write_table(run / "generate", "traces", Trace, counted())
    return {
        "rows_in": rows + dropped.total(),
        "rows_out": rows,
        "dropped": dict(dropped),
        "tables": {"traces": shards},
        "details": totals,
    }


def _reported(steps: Iterable[Step], progress: Progress) -> Iterator[Step]:
    """The steps, with how many rows were read told now and then; how many there are a stream
    does not know.
    """
    number = 0
    for number, step in enumerate(steps, 1):
        if number % _EVERY == 0:
            progress({"done": number})
        yield step
    progress({"done": number, "total": number})
