"""A stage's own process: `python -m tracestill.run.child STAGE RUN`, started by the pipeline; also
that of a pilot (`pilot RUN COUNT`) and of a model on a benchmark (`benchmark FOLDER`).

Progress goes to the parent as JSON lines over the descriptor in TRACESTILL_EVENTS; what the
libraries print goes to the stage's log.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import cast

from tracestill.records import Progress
from tracestill.records.layout import Job
from tracestill.run.errors import explain
from tracestill.run.process import EVENTS, PARENT

_PR_SET_PDEATHSIG = 1
_EVERY = 0.1  # seconds between progress events


def _die_with_parent() -> None:
    """Have the kernel end this process when the pipeline's is killed, so that no stage goes on
    writing beside the run that resumes it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ[PARENT]):
            os._exit(137)


def _take_group_along() -> None:
    """Have a process watch this one and, when it is gone, end what is left of its group: vLLM's
    engine process does not notice that who started it was killed, and would keep a GPU's memory.
    """
    if sys.platform != "linux":
        return
    stage, sign = os.getpid(), {signal.SIGUSR1}
    assert os.getpgrp() == stage, "the pipeline starts a stage in a session of its own"
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {*sign, signal.SIGINT, signal.SIGTERM})
    if os.fork() == 0:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
        if os.getppid() == stage:
            signal.sigwait(sign)
        os.killpg(stage, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class _Events:
    """Sends progress to the parent, at most ten times a second, and never less than the last."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._last = 0.0

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.done == progress.total or now - self._last >= _EVERY:
            self._last = now
            said = {name: v for name, v in asdict(progress).items() if v is not None}
            os.write(self._fd, json.dumps(said).encode() + b"\n")

    def error(self, line: str) -> None:
        os.write(self._fd, json.dumps({"error": line}).encode() + b"\n")


def main() -> int:
    """Run one stage; the exit status is 0 when it is complete, 130 when it was interrupted."""
    _die_with_parent()
    _take_group_along()
    job, run = cast(Job, sys.argv[1]), Path(sys.argv[2])
    events = _Events(int(os.environ[EVENTS]))
    try:
        from tracestill.recipe.loading import recipe_of_run
        from tracestill.run.pipeline import make_stage
        from tracestill.stages.generate import pilot

        if job == "benchmark":
            from tracestill.run.benchmarks import make_benchmark

            make_benchmark(run, events.progress)
            return 0
        recipe = recipe_of_run(run)
        if job == "pilot":
            pilot(recipe, run, int(sys.argv[3]), events.progress)
        else:
            make_stage(job, recipe, run, events.progress)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # The boundary of the process: the user gets the one line, the log all of it, where there
        # is room for it: a full disk is full for the log too.
        events.error(explain(error))
        with contextlib.suppress(OSError):
            traceback.print_exc()
            sys.stderr.flush()
        return 1
    return 0


if __name__ == "__main__":
    # vLLM's and torch's threads have nothing to say after the manifest is written, and tearing
    # them down takes seconds.
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)
