"""Evaluations that are done: read from the folders that hold them, and compared."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracestill.evaluate.figures import FAILED
from tracestill.evaluate.forgetting import AFTER, BEFORE
from tracestill.evaluate.statistics import by_problem, paired_difference
from tracestill.recipe.evaluation import PLAN, Evaluation, read_evaluation
from tracestill.records import Trace, Verdict, read_manifest, read_table, write_atomic
from tracestill.records.figures import EvaluationFigures, ModelFigures
from tracestill.records.layout import RECIPE
from tracestill.records.rates import Difference

RESULTS = "results.json"
HELDOUT = "held-out problems"  # of a run's own evaluation
_SUBJECTS = {"student_before": "base", "student_after": "student", "teacher": "teacher"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A model's evaluation on a benchmark. `table` in `folder` holds its answers; `plan` says how
    they were asked for, None for a run's own evaluation. `notes` are lines to read beside it.
    """

    model: str
    benchmark: str
    figures: ModelFigures
    folder: Path
    table: str
    plan: Evaluation | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An evaluation beside the first of its benchmark: by how much it is better on the problems
    that both answered; None for the first itself, and where there is no such problem.
    """

    evaluated: Evaluated
    first: bool
    difference: Difference | None


def read_evaluated(folder: Path) -> Evaluated:
    """A model's evaluation on a benchmark.

    Raises:
        ValueError: it is not complete, or was not made by this version.

    """
    plan, manifest = read_evaluation(folder), read_manifest(folder)
    if manifest is None or not isinstance(manifest.figures, EvaluationFigures):
        raise ValueError(f"the evaluation in {folder} is not complete: run it again, it goes on")
    ((table, figures),) = manifest.figures.results.items()
    return Evaluated(
        model=plan.name, benchmark=plan.benchmark, figures=figures, folder=folder, table=table,
        plan=plan, notes=tuple(manifest.notes),
    )  # fmt: skip


def evaluations_in(folder: Path) -> list[Evaluated]:
    """All evaluations that are complete in a folder: those on benchmarks below it, or a run's own.

    Raises:
        ValueError: there is none.

    """
    if (folder / PLAN).is_file():
        return [read_evaluated(folder)]
    found = [
        read_evaluated(one.parent)
        for one in sorted(folder.glob(f"*/{PLAN}"))
        if (one.parent / "manifest.json").is_file()
    ]
    if (folder / RECIPE).is_file():
        found = [*_of_run(folder), *found]
    if not found:
        raise ValueError(
            f"{folder} holds no finished evaluation: `tracestill evaluate MODEL BENCHMARK --out "
            f"{folder}` makes one"
        )
    return found


def _of_run(run: Path) -> Iterator[Evaluated]:
    manifest = read_manifest(run / "evaluate")
    if manifest is None or not isinstance(manifest.figures, EvaluationFigures):
        return
    for table, figures in manifest.figures.results.items():
        yield Evaluated(
            model=f"{run.name} {_SUBJECTS.get(table, table)}", benchmark=HELDOUT,
            figures=figures, folder=run / "evaluate", table=table,
        )  # fmt: skip
    for name, one in manifest.figures.forgetting.items():
        for table, figures in ((BEFORE, one.before), (AFTER, one.after)):
            yield Evaluated(
                model=f"{run.name} {_SUBJECTS[table]}", benchmark=name,
                figures=figures, folder=run / "evaluate", table=f"{table}.{name}",
            )  # fmt: skip


def answers(
    folder: Path, table: str, problems: Collection[str] | None = None
) -> dict[str, list[bool]]:
    """Which of a model's answers were right in the evaluation in `folder`, by problem; requests
    that failed are left out. `problems` are the ids that are wanted, None for all.

    Raises:
        ValueError: the evaluation is not complete, or a file of it is damaged.

    """
    outcomes = {
        one.trace_id: one.outcome for one in read_table(folder, f"{table}_verdicts", Verdict)
    }
    return by_problem(
        (trace.problem_id, outcomes[trace.id] == "correct")
        for trace in read_table(folder, table, Trace)
        if trace.finish not in FAILED and (problems is None or trace.problem_id in problems)
    )


def compare(evaluations: Sequence[Evaluated]) -> dict[str, list[Compared]]:
    """The evaluations by benchmark, each beside the first of its benchmark, by the paired test on
    the problems that both answered (`paired_difference`).
    """
    found: dict[str, list[Compared]] = {}
    first: dict[str, dict[str, list[bool]]] = {}
    for one in evaluations:
        rows = found.setdefault(one.benchmark, [])
        own = answers(one.folder, one.table)
        other = first.setdefault(one.benchmark, own)
        both = sorted(own.keys() & other.keys())
        difference = None
        if rows and both:
            difference = paired_difference([(_share(own[p]), _share(other[p])) for p in both])
        rows.append(Compared(evaluated=one, first=not rows, difference=difference))
    return found


def _share(marks: Sequence[bool]) -> float:
    return sum(marks) / len(marks)


def asked_otherwise(evaluations: Sequence[Evaluated]) -> list[str]:
    """Lines on settings by which evaluations of a benchmark differ, which may be why they do."""
    first, lines = evaluations[0], []
    for one in evaluations[1:]:
        if one.plan is None or first.plan is None:
            continue
        ours, theirs = _asked(one.plan), _asked(first.plan)
        apart = [
            f"{key} {ours[key]}, not {theirs[key]}" for key in ours if ours[key] != theirs[key]
        ]
        if apart:
            lines.append(f"{one.model} was asked otherwise than the first: {'; '.join(apart)}")
    return lines


def _asked(plan: Evaluation) -> dict[str, Any]:
    spec = plan.spec
    return {
        "temperature": spec.temperature, "top_p": spec.top_p, "top_k": spec.top_k,
        "max_tokens": spec.max_tokens,
    }  # fmt: skip


def write_results(out: Path) -> None:
    """Write the figures of all evaluations in a folder, with how each was asked, in one file.

    Raises:
        OSError: it can't be written.

    """
    values = {
        one.benchmark: {
            "model": one.model,
            **asdict(one.figures),
            "asked": None if one.plan is None else one.plan.model_dump(mode="json"),
            "notes": one.notes,
        }
        for one in evaluations_in(out)
    }
    write_atomic(out / RESULTS, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
