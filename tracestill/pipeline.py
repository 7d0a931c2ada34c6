"""Run a recipe: each stage in a process of its own, reused where nothing that it depends on
changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tracestill.child import EVENTS, PARENT
from tracestill.layout import PROVENANCE, RECIPE, STAGES, SUMMARY, Job, Stage, log_path
from tracestill.loading import dump_recipe
from tracestill.recipe import Recipe

_LOCK_SECONDS = 5.0
# trl, vLLM and huggingface_hub tell their makers of every use otherwise.
_QUIET = {"DO_NOT_TRACK": "1"}


class StageError(RuntimeError):
    """A stage failed; its text is the line for the user, `log` tells all."""

    def __init__(self, stage: str, message: str, log: Path) -> None:
        super().__init__(message)
        self.stage = stage
        self.log = log


class StoppedError(RuntimeError):
    """The user stopped the run; what was finished is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told how a run goes on: when a stage begins, what it reports, how it ended."""

    begin: Callable[[Job], None]
    event: Callable[[Job, dict[str, Any]], None]
    end: Callable[[Stage, dict[str, Any]], None]


def run_recipe(
    recipe: Recipe,
    run: Path,
    listener: Listener,
    *,
    start: Stage | None = None,
    stop: Stage | None = None,
) -> dict[str, Any]:
    """Run a recipe's stages in the folder `run` and return the summary that is written there.

    A complete stage whose settings and inputs are as they were is reused, unless it is `start`
    or comes after it. `stop` is the last stage to run.

    Raises:
        StageError: a stage failed. What the stages before it made, and what it had finished
            itself, is kept and reused by the next run.
        StoppedError: the run was stopped by Ctrl-C.
        ValueError: another run works in this folder, a finished stage's files are damaged, or the
            recipe sends something to a host that it does not allow or names a tracker that is not
            installed.
        OSError: the folder can't be written.

    """
    from finetune.checkpoints import forget
    from finetune.tracking import check_trackers
    from tracestill.egress import check_egress
    from tracestill.provenance import provenance
    from tracestill.records import write_atomic

    check_egress(recipe)  # before a URL with a password in it is written to the folder
    last = STAGES.index(stop) if stop else len(STAGES) - 1
    if last >= STAGES.index("finetune"):
        check_trackers(recipe.finetune.report_to)  # not after hours of sampling
    run.mkdir(parents=True, exist_ok=True)
    with _locked(run) as lock:
        begin = time.time()
        write_atomic(run / RECIPE, dump_recipe(recipe).encode())
        force = STAGES.index(start) if start else len(STAGES)
        stages: list[dict[str, Any]] = []
        for index, stage in enumerate(STAGES[: last + 1]):
            listener.begin(stage)
            if stage == "report":
                # The report shows the run that it belongs to; it is the last to be made.
                _write_summary(run, stages)
            reused = index < force and _reusable(stage, recipe, run)
            if index >= force and stage == "finetune":
                forget(run / stage)  # else it would go on from them
            if not reused:
                if not stages or all(entry["reused"] for entry in stages):
                    # Written once something is made, so that it tells what made it.
                    text = json.dumps(provenance(recipe.seed), indent=2) + "\n"
                    write_atomic(run / PROVENANCE, text.encode())
                _spawn(stage, run, lock, partial(listener.event, stage))
            entry = _entry(stage, run, reused)
            stages.append(entry)
            listener.end(stage, entry)
        summary = _write_summary(run, stages)
        return {**summary, "wall_seconds": time.time() - begin}


@contextlib.contextmanager
def _locked(run: Path) -> Iterator[int]:
    """Hold a run's folder. The stages' processes inherit the lock: it is free only once all of
    them are gone, however the run ended.
    """
    fd = os.open(run / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    owner = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
                    raise ValueError(
                        f"another tracestill (process {owner}) works in {run}; wait for it, or "
                        "give this run another folder with --out"
                    ) from error
                time.sleep(0.1)
        os.truncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield fd
    finally:
        os.close(fd)


def _reusable(stage: Stage, recipe: Recipe, run: Path) -> bool:
    """Whether a stage is complete, whole, and made from today's settings and inputs."""
    from tracestill.records import check_shards, read_manifest
    from tracestill.stages import fingerprint

    manifest = read_manifest(run / stage)
    if manifest is None or manifest.fingerprint != fingerprint(stage, recipe, run):
        return False
    check_shards(run / stage, manifest)
    return stage != "report" or (run / "report.html").exists()


def run_pilot(recipe: Recipe, run: Path, count: int, listener: Listener) -> None:
    """Make a run's problems and sample a few of them: see `tracestill.planning.pilot`.

    Raises:
        as `run_recipe`.

    """
    from tracestill.records import write_atomic

    if not _reusable("problems", recipe, run):
        run_recipe(recipe, run, listener, stop="problems")
    with _locked(run) as lock:
        write_atomic(run / RECIPE, dump_recipe(recipe).encode())
        if not count:
            return
        listener.begin("pilot")
        _spawn("pilot", run, lock, partial(listener.event, "pilot"), str(count))


def _spawn(
    stage: Job, run: Path, lock: int, told: Callable[[dict[str, Any]], None], *more: str
) -> None:
    """Run one stage as a child process and pass on what it reports."""
    log = log_path(run, stage)
    log.parent.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    environment = {**os.environ, **_QUIET, EVENTS: str(write_end), PARENT: str(os.getpid())}
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in the terminal reaches the parent only, which passes it on.
        child = subprocess.Popen(
            [sys.executable, "-m", "tracestill.child", stage, str(run), *more],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(write_end, lock),
            start_new_session=True,
        )
    os.close(write_end)
    message = ""
    interrupted = False
    with os.fdopen(read_end, "r", encoding="utf-8") as events:
        while True:
            try:
                for line in events:
                    event = json.loads(line)
                    message = event.get("error", message)
                    told(event)
                break
            except KeyboardInterrupt:
                child.send_signal(signal.SIGKILL if interrupted else signal.SIGINT)
                told({"interrupted": True})
                interrupted = True
    status = child.wait()
    if interrupted:
        raise StoppedError(stage)
    if status != 0:
        if status < 0 and not message:
            name = signal.Signals(-status).name
            message = f"the stage's process was ended by {name}" + (
                "; the machine may be out of memory" if name == "SIGKILL" else ""
            )
        raise StageError(stage, message or f"the stage ended with status {status}", log)


def _entry(stage: Stage, run: Path, reused: bool) -> dict[str, Any]:
    """A stage's line of the summary."""
    from tracestill.records import read_manifest

    manifest = read_manifest(run / stage)
    if manifest is None:
        raise StageError(stage, "the stage wrote no manifest", log_path(run, stage))
    return {
        "name": stage,
        "rows_in": manifest.rows_in,
        "rows_out": manifest.rows_out,
        "dropped": manifest.dropped,
        "seconds": manifest.seconds,
        "reused": reused,
        "masked": manifest.details.get("masked", {}),
        "overlong": manifest.details.get("overlong"),
        "findings": manifest.details.get("findings", []),
    }


def _write_summary(run: Path, stages: list[dict[str, Any]]) -> dict[str, Any]:
    from tracestill.records import read_manifest, write_atomic

    summary: dict[str, Any] = {"stages": stages, "evaluate": {}}
    if any(entry["name"] == "evaluate" for entry in stages):
        manifest = read_manifest(run / "evaluate")
        assert manifest is not None
        summary["evaluate"] = manifest.details["results"]
    write_atomic(run / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    return summary
