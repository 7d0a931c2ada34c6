"""The problems to distil from, and the held-out ones that the models are evaluated on."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.problems import Decontaminate
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    BenchmarkItem,
    Drop,
    Match,
    OnProgress,
    Problem,
    Progress,
    Shard,
    StageResult,
    file_fingerprint,
    write_table,
)
from tracestill.records.figures import ProblemFigures

if TYPE_CHECKING:
    from generate.importing import ImportedRow

BENCHMARKS = "benchmarks"  # a table of the stage
_EVERY = 500  # rows between two reports of progress
_LISTED = 10_000  # unreadable rows that are listed with their reasons; all are counted


def settings(recipe: Recipe) -> Any:
    """The section `problems`, its files by their content, and the data set that is imported."""
    sources = [*recipe.problems.train, *recipe.problems.heldout]
    files = [file_fingerprint(Path(one.path)) for one in sources if one.source == "file"]
    if recipe.problems.decontaminate is not None:
        named = recipe.problems.decontaminate.benchmarks
        files += [file_fingerprint(Path(one.path)) for one in named if one.source == "file"]
    without_paths: Any = {"__all__": {"path"}}
    nowhere = {"benchmarks": without_paths}
    said = recipe.problems.model_dump(
        exclude={"train": without_paths, "heldout": without_paths, "decontaminate": nowhere}
    )
    if not isinstance(recipe.generate, ImportTeacher):
        return [said, files]
    from generate.importing import fingerprint

    return [said, files, recipe.generate.model_dump(exclude={"path"}), fingerprint(recipe.generate)]


def make(recipe: Recipe, run: Path, progress: OnProgress) -> StageResult:
    """Generate, read or import the problems.

    Raises:
        ValueError: a source can't be read, or leaves no problem to distil from.

    """
    if isinstance(recipe.generate, ImportTeacher):
        return _import(recipe.generate, recipe, run, progress)
    from generate.problems import load_problems, stream_problems

    said, folder = recipe.problems.instruction, run / "problems"
    heldout, dropped = load_problems(recipe.problems.heldout, instruction=said)
    train = stream_problems(recipe.problems.train, dropped, exclude=heldout, instruction=said)
    items = _items(recipe)
    matches: list[Match] = []
    if recipe.problems.decontaminate is not None:
        train = _clean(train, recipe.problems.decontaminate, items, matches)
    tables = {
        "train": write_table(folder, "train", Problem, train),
        "heldout": write_table(folder, "heldout", Problem, heldout),
        **_benchmarks(recipe, folder, items),
    }
    if recipe.problems.decontaminate is not None:
        tables["contaminated"] = write_table(folder, "contaminated", Match, matches)
        dropped += Counter(contaminated=len(matches))
    distilled = sum(shard.rows for shard in tables["train"])
    if not distilled:
        raise ValueError("problems.train: no problem is left to distil from")
    kept = distilled + len(heldout)
    progress(Progress(done=kept, total=kept))
    return StageResult(
        rows_in=kept + sum(dropped.values()),
        rows_out=kept,
        dropped=dict(dropped),
        tables=tables,
        figures=ProblemFigures(train=distilled, heldout=len(heldout)),
    )


def _items(recipe: Recipe) -> list[BenchmarkItem]:
    """The questions of the benchmarks that training must not have seen."""
    if recipe.problems.decontaminate is None:
        return []
    from generate.benchmarks import benchmark_items

    return list(benchmark_items(recipe.problems.decontaminate.benchmarks))


def _benchmarks(
    recipe: Recipe, folder: Path, items: Sequence[BenchmarkItem]
) -> dict[str, list[Shard]]:
    """The table of these questions, if the recipe names benchmarks."""
    if recipe.problems.decontaminate is None:
        return {}
    return {BENCHMARKS: write_table(folder, BENCHMARKS, BenchmarkItem, items)}


def _clean(
    problems: Iterator[Problem],
    section: Decontaminate,
    items: Sequence[BenchmarkItem],
    matches: list[Match],
) -> Iterator[Problem]:
    """The problems that hold no item; of the others `matches` takes what they hold."""
    from filter.benchmarks import finder

    found = finder(items, section.ngram)
    while some := list(itertools.islice(problems, _EVERY)):
        held = found.matches(
            [one.id for one in some], [one.prompt for one in some], renumbered=section.renumbered
        )
        matches += [match for match in held if match is not None]
        yield from (one for one, match in zip(some, held, strict=True) if match is None)


def _import(section: ImportTeacher, recipe: Recipe, run: Path, progress: OnProgress) -> StageResult:
    """Write the data set's problems and the recipe's held-out ones. The table `unreadable` lists
    rows that could not be read, by their place, with the reason.
    """
    from generate.importing import walk
    from generate.problems import load_problems

    said, folder = recipe.problems.instruction, run / "problems"
    heldout, skipped = load_problems(recipe.problems.heldout, instruction=said)
    rows: Counter[str] = Counter()
    unreadable: list[Drop] = []

    def new() -> Iterator[Problem]:
        for row in reported(walk(section, heldout, said), progress):
            rows[row.status] += 1
            if row.status == "new" and row.problem is not None:
                yield row.problem
            elif row.status == "unreadable" and len(unreadable) < _LISTED:
                unreadable.append(
                    Drop(trace_id=row.place, step="import", reason="unreadable", detail=row.wrong)
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
    return StageResult(
        rows_in=kept + dropped.total(),
        rows_out=kept,
        dropped={reason: count for reason, count in dropped.items() if count},
        tables={
            "train": train,
            "heldout": write_table(folder, "heldout", Problem, heldout),
            **_benchmarks(recipe, folder, _items(recipe)),
            "unreadable": write_table(folder, "unreadable", Drop, unreadable),
        },
        figures=ProblemFigures(train=rows["new"], heldout=len(heldout)),
    )


def reported(rows: Iterable[ImportedRow], progress: OnProgress) -> Iterator[ImportedRow]:
    """The rows of a data set as they are read, with progress now and then; how many there are a
    stream does not know.
    """
    number = 0
    for number, row in enumerate(rows, 1):
        if number % _EVERY == 0:
            progress(Progress(done=number))
        yield row
    progress(Progress(done=number, total=number))
