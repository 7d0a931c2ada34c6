"""A stage that another run has made already: taken over instead of made again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.loading import recipe_of_run
from tracestill.recipe.schema import Recipe
from tracestill.records import Manifest, check_files, digest, missing_file, read_manifest
from tracestill.records.decisions import DECISIONS
from tracestill.records.layout import PROVENANCE, RECIPE, STAGES, Stage
from tracestill.run.fingerprint import current, fingerprint
from tracestill.run.pipeline import LINE
from tracestill.stages.generate import job_of

_TRAINED = "student_after"  # of which no answer is another run's


def stages_to(stop: Stage) -> tuple[Stage, ...]:
    """The stages up to `stop`, and with it."""
    return STAGES[: STAGES.index(stop) + 1]


def planned(recipe: Recipe, stop: Stage) -> dict[Stage, str]:
    """For each stage a hash that is equal in two recipes if nothing that they say makes the stage
    come out differently. Known before anything is made, it takes for different what may turn out
    to have equal content.

    Raises:
        ValueError: a model or file that the recipe names is not there.

    """
    keys: dict[Stage, str] = {}
    for stage in stages_to(stop):
        part = LINE[stage]
        above = [keys[name] for name in part.reads]
        keys[stage] = digest(stage, above, part.settings(recipe), part.limits(recipe))
    return keys


def complete(recipe: Recipe, run: Path, stop: Stage) -> dict[Stage, Manifest]:
    """The manifests of a run's first stages that need not be made again.

    Raises:
        ValueError: a manifest is not readable.

    """
    there: dict[Stage, Manifest] = {}
    for stage in stages_to(stop):
        manifest = current(LINE[stage], stage, recipe, run)
        if manifest is None:
            break
        there[stage] = manifest
    return there


def adopt(stage: Stage, recipe: Recipe, run: Path, others: Iterable[Path]) -> Path | None:
    """Take over a stage from the first of the other runs that has made it from the same settings
    and inputs, by the fingerprint that would let this run reuse it. None if none has.

    Tables are linked: a table is never written in place. All else is copied. A journal of the
    run's own is only replaced by one that holds all of it.

    Raises:
        ValueError: an earlier stage of this run is not complete, or the other's files are damaged.
        OSError: the disk.

    """
    own = run / stage
    for other in _others(run, others):
        manifest = read_manifest(other / stage)
        if manifest is None or missing_file(other / stage, manifest) is not None:
            continue
        part = LINE[stage]
        made = fingerprint(
            part, stage, recipe, run, given=part.given(run), cut_short=manifest.cut_short
        )
        if made != manifest.fingerprint or not _holds_journals(other / stage, own):
            continue
        check_files(other / stage, manifest)
        tables = {shard.file for shards in manifest.tables.values() for shard in shards}
        _replace(other / stage, own, tables)
        if (other / PROVENANCE).is_file() and not (run / PROVENANCE).exists():
            shutil.copy2(other / PROVENANCE, run / PROVENANCE)
        return other
    return None


def take_journals(stage: Stage, recipe: Recipe, run: Path, others: Iterable[Path]) -> None:
    """Copy the journals of another run with the same seed, before this run makes the stage itself:
    what both want is not asked for again.

    Those of the teacher's samples only where it is the same teacher, sampled in the same way, and
    without a budget: else what the other run has spent would count against this one's.

    Raises:
        OSError: the disk.

    """
    folder = run / stage
    if any(_journals(folder)):
        return
    for other in _others(run, others):
        found = list(_journals(other / stage))
        if not found or not _same_answers(stage, recipe, other):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for path in found:
            _copy(path, folder / path.name)
        return


def _others(run: Path, others: Iterable[Path]) -> Iterator[Path]:
    return (other for other in others if other != run and (other / RECIPE).is_file())


def _same_answers(stage: Stage, recipe: Recipe, run: Path) -> bool:
    """Whether a run's answers in a stage's journals can be those that a recipe asks for."""
    theirs = recipe_of_run(run)
    if theirs.seed != recipe.seed:
        return False
    if stage != "generate":
        return True
    for one in (recipe, theirs):
        if isinstance(one.generate, ImportTeacher):
            return False
        budget = one.generate.budget
        if (budget.tokens, budget.money, budget.hours) != (None, None, None):
            return False
    return job_of(recipe, run).identity == job_of(theirs, run).identity


def _journals(folder: Path) -> Iterator[Path]:
    """The journals in a stage's folder, but those of the trained student's answers."""
    return (
        path
        for path in sorted(folder.glob("*journal.jsonl"))
        if not path.name.startswith(_TRAINED) and path.stat().st_size
    )


def _holds_journals(source: Path, own: Path) -> bool:
    """Whether each journal in a folder, and what people decided, is the beginning of that in
    another: replacing the folder then loses no answer.
    """
    for path in (*own.glob("*journal.jsonl"), *own.glob(DECISIONS.name)):
        other, size = source / path.name, path.stat().st_size
        if size and (not other.is_file() or not _begins(other, path, size)):
            return False
    return not (own / "batches").exists()


def _begins(whole: Path, part: Path, size: int) -> bool:
    if whole.stat().st_size < size:
        return False
    with whole.open("rb") as first, part.open("rb") as second:
        while block := second.read(1 << 20):
            if first.read(len(block)) != block:
                return False
    return True


def _replace(source: Path, own: Path, tables: set[str]) -> None:
    """Put a copy of a stage's folder in place of a run's own, whole or not at all."""
    own.parent.mkdir(parents=True, exist_ok=True)
    fresh = own.with_name(f".{own.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)  # of a call that was killed
    shutil.copytree(
        source,
        fresh,
        copy_function=lambda path, target: (
            _link(path, target) if Path(path).name in tables else shutil.copy2(path, target)
        ),
    )
    shutil.rmtree(own, ignore_errors=True)
    fresh.rename(own)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # file systems without links
        shutil.copy2(source, target)
    return target


def _copy(source: Path, target: Path) -> None:
    """A copy that is there whole or not at all."""
    fresh = target.with_name(f".{target.name}.tmp")
    shutil.copy2(source, fresh)
    fresh.replace(target)
