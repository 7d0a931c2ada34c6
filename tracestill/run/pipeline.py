"""The whole line: problems → generate → filter → finetune → evaluate → report.

`LINE` says how each stage is made and what it reads of those before it. `run_recipe` reuses what
was made from the same settings and inputs; `make_stage` makes the rest, in processes of their own.
"""

from __future__ import annotations

import time
from pathlib import Path

from finetune.checkpoints import forget
from tracestill.explore.cards import write_cards
from tracestill.recipe.loading import dump_recipe
from tracestill.recipe.schema import Recipe
from tracestill.records import OnProgress, as_manifest, write_atomic, write_manifest
from tracestill.records.layout import RECIPE, STAGES, Stage
from tracestill.run.checks import check_start
from tracestill.run.fingerprint import Part, current, fingerprint, reusable
from tracestill.run.listener import Listener
from tracestill.run.lock import locked
from tracestill.run.process import run_job
from tracestill.run.provenance import write_provenance
from tracestill.run.summary import Summary, stage_summary, write_summary
from tracestill.stages import evaluate, filter_settings, finetune, generate, problems, report
from tracestill.stages import filter as filtering

LINE: dict[Stage, Part] = {
    "problems": Part(settings=problems.settings, make=problems.make),
    "generate": Part(
        settings=generate.settings, make=generate.make, limits=generate.limits,
        reads={"problems": ("train", "heldout")},
    ),
    "filter": Part(
        settings=filter_settings.settings, make=filtering.make, given=filter_settings.decisions,
        reads={"problems": ("train", "heldout", "benchmarks"), "generate": ("traces", "verdicts")},
    ),
    "finetune": Part(
        settings=finetune.settings, make=finetune.make, reads={"filter": ("kept", "stages")},
    ),
    "evaluate": Part(
        settings=evaluate.settings, make=evaluate.make,
        reads={"problems": ("heldout",), "finetune": ("merged",)},
    ),
    "report": Part(
        settings=report.settings, make=report.make, reads=dict.fromkeys(STAGES[:-1], ()),
    ),
}  # fmt: skip


def run_recipe(
    recipe: Recipe,
    run: Path,
    listener: Listener,
    *,
    start: Stage | None = None,
    stop: Stage | None = None,
) -> Summary:
    """Run a recipe's stages up to `stop` in the folder `run`, and return the summary that is
    written there. `start` and what comes after it are made again, whatever is there.

    Raises:
        StageError: a stage failed, or the filter kept nothing. What was finished is kept.
        StoppedError: the run was stopped by Ctrl-C.
        ValueError: another run works in this folder, a stage's files are damaged, or the recipe
            sends something to a host that it does not allow or needs a library that is missing.
        OSError: the folder can't be written.

    """
    stages = STAGES[: STAGES.index(stop) + 1] if stop else STAGES
    check_start(recipe, stages)
    again = STAGES[STAGES.index(start) :] if start else ()
    run.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    summary = Summary()
    with locked(run) as lock:
        write_atomic(run / RECIPE, dump_recipe(recipe).encode())
        for stage in stages:
            listener.begin(stage)
            if stage == "report":
                write_summary(run, summary)  # which it shows
            reused = stage not in again and reusable(LINE[stage], stage, recipe, run)
            if stage == "finetune" and stage in again:
                forget(run / stage)  # else it would resume from its checkpoints
            if not reused:
                if all(one.reused for one in summary.stages):
                    write_provenance(run, recipe.seed)  # of what makes the first new result
                run_job(stage, run, lock, listener)
            entry = stage_summary(stage, run, reused=reused)
            summary = summary.with_stage(entry, run)
            listener.end(entry)
            entry.check()
        write_summary(run, summary)
    return summary.with_seconds(time.monotonic() - begin)


def make_stage(stage: Stage, recipe: Recipe, run: Path, progress: OnProgress) -> None:
    """Make one stage, in its own process, and declare it complete.

    Raises:
        ValueError: something that the user can mend, in one line.
        OSError: the disk.

    """
    begin, part, folder = time.monotonic(), LINE[stage], run / stage
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    given = part.given(run)  # what comes while it is made makes it again
    result = part.make(recipe, run, progress)
    made = fingerprint(part, stage, recipe, run, given=given, cut_short=result.cut_short)
    seconds = round(time.monotonic() - begin, 2)
    write_manifest(
        folder, as_manifest(folder, result, stage=stage, fingerprint=made, seconds=seconds)
    )
    if stage == "finetune":
        forget(folder)  # not sooner: a kill before the manifest would cost the training
    if stage in ("finetune", "evaluate", "report"):
        evaluated = current(LINE["evaluate"], "evaluate", recipe, run)
        write_cards(recipe, run, evaluated=evaluated is not None)
