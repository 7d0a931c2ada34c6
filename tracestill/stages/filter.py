"""Every trace judged, and dropped where the recipe does not want it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracestill.recipe.generate import ServedTeacher
from tracestill.recipe.sandbox import read_sandbox
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    Dispute,
    Doubt,
    Drop,
    Kept,
    OnProgress,
    Problem,
    StageResult,
    Trace,
    Verdict,
    file_fingerprint,
    read_manifest,
    read_table,
    write_table,
)
from tracestill.stages.asked_model import model_settings
from tracestill.stages.examples import content, example_of
from tracestill.stages.judge import open_judge


def settings(recipe: Recipe) -> Any:
    """The section `filter`, the judge by its content, and the verifiers with their versions."""
    from filter.verify import verifier_names

    judge = recipe.filter.judge
    asked = judge and [
        model_settings(judge),
        judge.max_tokens,
        judge.temperature,
        file_fingerprint(Path(judge.template)),
        recipe.seed,
    ]
    said = recipe.filter.model_dump(exclude={"judge"})
    made = [said, asked, verifier_names(read_sandbox(recipe.filter.sandbox)), _redaction(recipe)]
    return made if recipe.finetune.needs_reasoning else [*made, "without reasoning too"]


def _redaction(recipe: Recipe) -> Any:
    """What was masked in the prompts, which decides how traces and prompts are read."""
    teacher = recipe.generate
    if not isinstance(teacher, ServedTeacher) or teacher.redact is None:
        return None
    return [teacher.redact.model_dump(), teacher.system_prompt]


def make(recipe: Recipe, run: Path, progress: OnProgress) -> StageResult:
    """Judge the traces and drop those that the recipe does not want; nothing is deleted.

    Raises:
        ValueError: the judge can't be asked.
        RuntimeError: a verifier's process can't be started.

    """
    from filter.advice import references_without_answer, why_nothing_is_kept
    from filter.filtering import filter_traces

    folder = run / "filter"
    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    judge = recipe.filter.judge
    result = filter_traces(
        _restored(recipe, problems, read_table(run / "generate", "traces", Trace)),
        problems,
        list(read_table(run / "problems", "heldout", Problem)),
        recipe.filter,
        progress,
        open_judge(judge, recipe.seed, folder, progress) if judge is not None else None,
        _known_verdicts(run),
        needs_reasoning=recipe.finetune.needs_reasoning,
    )
    kept = set(result.kept)
    total = len(kept) + len(result.drops)
    notes = [references_without_answer(result.doubts)]
    if not kept:
        notes.append(why_nothing_is_kept(result.dropped, total))
    return StageResult(
        rows_in=total,
        rows_out=len(kept),
        dropped=result.dropped,
        tables={
            "verdicts": write_table(folder, "verdicts", Verdict, result.verdicts),
            "drops": write_table(folder, "drops", Drop, result.drops),
            "disputes": write_table(folder, "disputes", Dispute, result.disputes),
            "doubts": write_table(folder, "doubts", Doubt, result.doubts),
            "kept": write_table(folder, "kept", Kept, _kept(recipe, run, problems, kept)),
        },
        notes=[note for note in notes if note],
    )


def _known_verdicts(run: Path) -> dict[str, Verdict]:
    """The verdicts that were made while sampling, by trace id."""
    manifest = read_manifest(run / "generate")
    if manifest is None or "verdicts" not in manifest.tables:
        return {}
    return {v.trace_id: v for v in read_table(run / "generate", "verdicts", Verdict)}


def _restored(
    recipe: Recipe, problems: Mapping[str, Problem], traces: Iterable[Trace]
) -> Iterable[Trace]:
    """The traces with the originals of what was masked, as the references have them."""
    from generate.redact import redactor, restored

    teacher = recipe.generate
    if not isinstance(teacher, ServedTeacher) or teacher.redact is None:
        return traces
    return restored(traces, problems, redactor(teacher.redact), teacher.system_prompt)


def _kept(
    recipe: Recipe, run: Path, problems: Mapping[str, Problem], kept: set[str]
) -> Iterator[Kept]:
    """The kept traces in the order of the table of traces, each with a hash of what it teaches."""
    made = example_of(recipe)
    for trace in read_table(run / "generate", "traces", Trace):
        if trace.id in kept:
            taught = content(made(problems[trace.problem_id], trace))
            yield Kept(trace_id=trace.id, content=taught)
