"""Every trace judged, and dropped where the recipe does not want it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.recipe.generate import ServedTeacher
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    BenchmarkItem,
    Dispute,
    Doubt,
    Drop,
    Kept,
    KeptContent,
    Mended,
    OnProgress,
    PassRate,
    Problem,
    StageResult,
    Table,
    TraceText,
    Verdict,
    digest,
    open_table,
    read_manifest,
    read_table,
    table_files,
    write_atomic,
    write_table,
)
from tracestill.records.decisions import decided_settings, decided_verdicts
from tracestill.records.figures import FilterFigures
from tracestill.records.identity import FORMAT
from tracestill.records.layout import FUNNEL
from tracestill.stages.curriculum import write_stages
from tracestill.stages.examples import kept_row
from tracestill.stages.filter_settings import settings
from tracestill.stages.judge import open_confirm, open_judge
from tracestill.stages.problems import BENCHMARKS
from tracestill.stages.student import AskedStudent

if TYPE_CHECKING:
    from filter.benchmarks import Finder
    from filter.filtering import Filtered
    from filter.verify.judge import Confirm
    from tracestill.records.verifier import Verifier


def make(recipe: Recipe, run: Path, progress: OnProgress) -> StageResult:
    """Judge the traces and drop those that the recipe does not want; nothing is deleted.

    Raises:
        ValueError: the judge can't be asked, or a file is damaged.
        RuntimeError: a process can't be started.

    """
    from filter.advice import references_without_answer, why_nothing_is_kept

    folder = run / "filter"
    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    judge = recipe.filter.judge
    decided = decided_verdicts(run)
    parts = folder / f"parts-{_inputs(recipe, run, decided)}"
    for other in folder.glob("parts-*"):
        if other != parts:
            shutil.rmtree(other)  # of other settings or traces
    found = filtered(
        recipe, run, problems, table_files(run / "generate", "traces"), parts, folder, progress,
        open_judge(judge, recipe.seed, folder, progress) if judge is not None else None,
        open_confirm(judge, recipe.seed, folder, progress) if judge is not None else None,
        decided,
    )  # fmt: skip
    notes = [references_without_answer(found.doubts)]
    if not found.kept:
        notes.append(why_nothing_is_kept(found.dropped, found.total))
    row = kept_row(recipe)
    kept = (row(problems[text.problem_id], text) for text in found.kept_texts())
    mended = {}
    if recipe.filter.agreement is not None and recipe.filter.agreement.mend:
        mended["mended"] = write_table(folder, "mended", Mended, found.mended)
        if found.mended:
            notes.append(
                f"{len(found.mended):,} references were replaced by what most samples say: the "
                "table mended lists them"
            )
    further = {**mended, **write_stages(recipe, found, folder)}
    write_atomic(folder / FUNNEL, _funnel(found.funnel, found.noted))
    result = StageResult(
        rows_in=found.total,
        rows_out=found.kept,
        dropped=found.dropped,
        tables={
            "verdicts": write_table(folder, "verdicts", Verdict, found.verdicts()),
            "drops": write_table(folder, "drops", Drop, found.drops()),
            "disputes": write_table(folder, "disputes", Dispute, found.disputes),
            "doubts": write_table(folder, "doubts", Doubt, found.doubts),
            **further,
            "kept": write_table(folder, "kept", Kept, kept, content=KeptContent),
        },
        files=[FUNNEL],
        figures=FilterFigures(
            seconds={step: round(each, 3) for step, each in found.seconds.items()},
            judging=round(found.judging, 3),
        ),
        notes=[note for note in notes if note],
    )
    shutil.rmtree(parts)
    return result


def filtered(
    recipe: Recipe,
    run: Path,
    problems: Mapping[str, Problem],
    files: Sequence[Path],
    parts: Path,
    said: Path,
    progress: OnProgress,
    judge: Verifier | None = None,
    confirm: Confirm | None = None,
    decided: Mapping[str, Verdict] | None = None,
) -> Filtered:
    """Ask the recipe's steps about the traces in `files`, by what the run knows of them. `parts` is
    the folder of what is found, `said` that of what the student says, if a step depends on it,
    `decided` what people said of traces.

    Raises:
        ValueError: a file is damaged.
        RuntimeError: a process can't be started.

    """
    from filter.filtering import filter_table

    clean, student = recipe.problems.decontaminate, None
    stages = recipe.finetune.selections
    if recipe.filter.asks_student or any(one.asks_student for one in stages):
        student = AskedStudent(recipe=recipe, problems=problems, folder=said, progress=progress)
    return filter_table(
        files,
        problems,
        list(read_table(run / "problems", "heldout", Problem)),
        recipe.filter,
        parts,
        progress,
        judge,
        _known_verdicts(run),
        _restored(recipe, problems),
        needs_reasoning=recipe.finetune.needs_reasoning,
        benchmarks=_finder(recipe, run),
        renumbered=clean.renumbered if clean else None,
        student=student,
        pass_rates=_known_rates(run),
        confirm=confirm,
        stages=stages,
        decided=decided,
    )


def _finder(recipe: Recipe, run: Path) -> Finder | None:
    """The benchmarks that training must not have seen."""
    if recipe.problems.decontaminate is None:
        return None
    from filter.benchmarks import finder

    items = list(read_table(run / "problems", BENCHMARKS, BenchmarkItem))
    return finder(items, recipe.problems.decontaminate.ngram)


def _known_rates(run: Path) -> dict[str, float | None] | None:
    """The teacher's pass rates by problem, where its sampling stopped by a rule: the shares of its
    samples that are right would be biased.
    """
    manifest = read_manifest(run / "generate")
    if manifest is None or "pass_rates" not in manifest.tables:
        return None
    rates = read_table(run / "generate", "pass_rates", PassRate)
    return {rate.problem_id: rate.pass_rate for rate in rates}


def _inputs(recipe: Recipe, run: Path, decided: Mapping[str, Verdict]) -> str:
    """A hash of all that decides what the filter finds out of each trace."""
    contents = [
        manifest.content()
        for stage in ("problems", "generate")
        if (manifest := read_manifest(run / stage)) is not None
    ]
    further = [decided_settings(decided)] if decided else []
    return digest(FORMAT, settings(recipe), contents, *further)


def _funnel(funnel: Mapping[str, tuple[int, int]], noted: Mapping[str, int]) -> bytes:
    by_step: dict[str, dict[str, int]] = {step: {} for step in funnel}
    for name, count in noted.items():
        step, _, reason = name.partition(": ")
        by_step[step][reason] = count
    rows = [
        {"step": step, "traces": entered, "dropped": dropped, "noted": by_step[step]}
        for step, (entered, dropped) in funnel.items()
    ]
    return (json.dumps(rows, indent=2) + "\n").encode()


def _known_verdicts(run: Path) -> Callable[[Sequence[str]], Mapping[str, Verdict]] | None:
    """The verdicts that were made while sampling, by trace id."""
    manifest = read_manifest(run / "generate")
    if manifest is None or "verdicts" not in manifest.tables:
        return None
    table: Table[Verdict] = open_table(run / "generate", "verdicts", Verdict)
    places = {trace: place for place, trace in enumerate(table.column("trace_id"))}

    def known(ids: Sequence[str]) -> dict[str, Verdict]:
        # In the table's order, so that each group of its rows is read once.
        found = (table[place] for place in sorted(places[one] for one in ids if one in places))
        return {verdict.trace_id: verdict for verdict in found}

    return known


def _restored(
    recipe: Recipe, problems: Mapping[str, Problem]
) -> Callable[[Iterable[TraceText]], Iterable[TraceText]] | None:
    """A function that gives traces the originals of what was masked, as the references have them;
    None where nothing was.
    """
    from generate import redact

    teacher = recipe.generate
    if not isinstance(teacher, ServedTeacher) or teacher.redact is None:
        return None
    mask, system = redact.redactor(teacher.redact), teacher.system_prompt
    return lambda traces: redact.restored(traces, problems, mask, system)
