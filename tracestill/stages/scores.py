"""How well the traces of some runs suit a recipe's student, without training it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracestill.explore.life import Written
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    OnProgress,
    Problem,
    Score,
    TraceText,
    Verdict,
    digest,
    read_manifest,
    read_table,
    table_files,
    to_row,
    unusable,
)
from tracestill.records.content import model_name
from tracestill.stages.student import AskedStudent

_ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suitability:
    """How well traces of a teacher suit the student: means over `traces` of the student's `tokens`,
    of rank and surprisal, `rsr` (their ratio), local naturalness, and the share that is correct.
    None where it was not asked or is not known. `source` is that of the problems, "all" for all.
    """

    run: Path
    teacher: str
    source: str
    traces: int
    tokens: float
    rank: float
    surprisal: float
    rsr: float
    local: float | None
    correct: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """A trace's score with its rank-surprisal ratio, as a row of a file."""

    trace_id: str
    tokens: int
    rank: float
    surprisal: float
    local: float | None
    rsr: float

    @staticmethod
    def of(score: Score) -> ScoreRow:
        """A score's row."""
        return ScoreRow(**to_row(score), rsr=score.rsr)


def score_runs(
    recipe: Recipe,
    runs: Sequence[Path],
    folder: Path,
    count: int,
    progress: OnProgress,
    *,
    local: bool = False,
) -> tuple[list[Suitability], list[Score]]:
    """Score up to `count` traces of each run for the recipe's student: of the same problems in all
    runs, as far as they have them. Scores are kept in `folder`, so that none is made twice.

    Returns:
        A row for each run and each of its problems' sources, and the scores themselves.

    Raises:
        ValueError: a run has no traces, or none that the student can learn.

    """
    made: list[Suitability] = []
    scores: list[Score] = []
    for run in runs:
        if read_manifest(run / "generate") is None:
            raise ValueError(f"{run} has no traces yet: `tracestill generate RECIPE` samples them")
        problems = {one.id: one for one in read_table(run / "problems", "train", Problem)}
        student = AskedStudent(recipe=recipe, problems=problems, folder=folder, progress=progress)
        right = _right(run)
        for teacher, traces in _chosen(run, count, recipe.finetune.needs_reasoning).items():
            found = [score for score in student.scores(traces, local=local) if score is not None]
            if found:
                scores += found
                tasks = {trace.id: problems[trace.problem_id].task for trace in traces}
                made += _rows(run, model_name(teacher), found, tasks, right)
        if not any(row.run == run for row in made):
            raise ValueError(
                f"{run} has no trace that {recipe.finetune.student} can learn: see `tracestill "
                "preview`, and finetune.max_length"
            )
    return made, scores


def _chosen(run: Path, count: int, needs_reasoning: bool) -> dict[str, list[TraceText]]:
    """For each teacher traces that can be learnt: of each problem before a second of any, the
    problems in an order that is the same in all runs.
    """
    from filter.table import texts_at, trace_files

    usable: dict[str, list[tuple[int, str, int]]] = {}
    samples: Counter[tuple[str, str]] = Counter()
    folder = run / "generate"
    written = read_table(folder, "traces", Written)
    for place, trace in enumerate(read_table(folder, "traces", TraceText)):
        teacher = next(written).teacher.model
        if unusable(trace, needs_reasoning=needs_reasoning) is None:
            key = samples[teacher, trace.problem_id], digest("score", trace.problem_id), place
            usable.setdefault(teacher, []).append(key)
            samples[teacher, trace.problem_id] += 1
    files = trace_files(table_files(folder, "traces"))
    found: dict[str, list[TraceText]] = {}
    for teacher, keys in usable.items():
        places = np.sort([place for *_, place in heapq.nsmallest(count, keys)])
        found[teacher] = [text for _, texts in texts_at(files, places) for text in texts]
    return found


def _rows(
    run: Path,
    teacher: str,
    scores: Sequence[Score],
    tasks: Mapping[str, str],
    right: frozenset[str] | None,
) -> list[Suitability]:
    by_source: dict[str, list[Score]] = {_ALL: list(scores)}
    for score in scores:
        by_source.setdefault(tasks[score.trace_id], []).append(score)
    if len(by_source) == 2:  # one source alone is all
        by_source = {_ALL: list(scores)}
    return [_row(run, teacher, source, own, right) for source, own in by_source.items()]


def _row(
    run: Path, teacher: str, source: str, scores: Sequence[Score], right: frozenset[str] | None
) -> Suitability:
    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(scores)

    rank, surprisal = mean(s.rank for s in scores), mean(s.surprisal for s in scores)
    locals_ = [score.local for score in scores if score.local is not None]
    return Suitability(
        run=run,
        teacher=teacher,
        source=source,
        traces=len(scores),
        tokens=mean(score.tokens for score in scores),
        rank=rank,
        surprisal=surprisal,
        rsr=rank / max(surprisal, 1e-12),
        local=sum(locals_) / len(locals_) if locals_ else None,
        correct=None if right is None else mean(score.trace_id in right for score in scores),
    )


def _right(run: Path) -> frozenset[str] | None:
    """The traces that were judged correct; None where they were not judged yet."""
    for stage in ("filter", "generate"):
        manifest = read_manifest(run / stage)
        if manifest is not None and "verdicts" in manifest.tables:
            verdicts = read_table(run / stage, "verdicts", Verdict)
            return frozenset(one.trace_id for one in verdicts if one.outcome == "correct")
    return None
