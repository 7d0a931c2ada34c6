"""One model on one benchmark, in a folder of its own: made in a process of its own, or reused."""

from __future__ import annotations

import time
from pathlib import Path

from tracestill.evaluate.evaluated import Evaluated, read_evaluated
from tracestill.recipe.evaluation import PLAN, Evaluation, dump_evaluation, read_evaluation
from tracestill.records import (
    OnProgress,
    check_files,
    digest,
    missing_file,
    read_manifest,
    write_atomic,
    write_manifest,
)
from tracestill.records.identity import FORMAT
from tracestill.records.manifest import as_manifest
from tracestill.run.listener import Listener
from tracestill.run.lock import locked
from tracestill.run.process import run_job
from tracestill.run.provenance import write_provenance
from tracestill.stages import benchmarks


def check_folder(evaluation: Evaluation, out: Path) -> None:
    """Check that what lies in `out` is of the same model, since a folder holds one.

    Raises:
        ValueError: it is of another model.

    """
    for plan in sorted(out.glob(f"*/{PLAN}")):
        other = read_evaluation(plan.parent)
        if (other.model.model, other.run) != (evaluation.model.model, evaluation.run):
            raise ValueError(
                f"{out} holds evaluations of {other.model.model}: name another folder with --out"
            )


def run_benchmark(evaluation: Evaluation, folder: Path, listener: Listener) -> Evaluated:
    """Evaluate a model on a benchmark, or take what was found before with the same settings.

    Raises:
        StageError: it failed; what was answered is kept.
        StoppedError: it was stopped by Ctrl-C.
        ValueError: another process works in this folder, or a file of it is damaged.
        OSError: the folder can't be written.

    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as lock:
        write_atomic(folder / PLAN, dump_evaluation(evaluation).encode())
        listener.begin("benchmark")
        if not _reusable(evaluation, folder):
            write_provenance(folder, evaluation.seed)
            run_job("benchmark", folder, lock, listener)
    return read_evaluated(folder)


def make_benchmark(folder: Path, progress: OnProgress) -> None:
    """Evaluate as the folder's plan says, in this process, and declare it complete.

    Raises:
        ValueError: something that the user can mend, in one line.
        OSError: the disk.

    """
    begin, evaluation = time.monotonic(), read_evaluation(folder)
    (folder / "manifest.json").unlink(missing_ok=True)
    result = benchmarks.make(evaluation, folder, progress)
    seconds = round(time.monotonic() - begin, 2)
    made = _fingerprint(evaluation)
    manifest = as_manifest(folder, result, stage="evaluate", fingerprint=made, seconds=seconds)
    write_manifest(folder, manifest)


def _fingerprint(evaluation: Evaluation) -> str:
    return digest(FORMAT, "benchmark", benchmarks.settings(evaluation))


def _reusable(evaluation: Evaluation, folder: Path) -> bool:
    manifest = read_manifest(folder)
    if manifest is None or missing_file(folder, manifest) is not None:
        return False
    if manifest.fingerprint != _fingerprint(evaluation):
        return False
    check_files(folder, manifest)
    return True
