"""A stage's process, seen from the run: started, listened to, and stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tracestill.records import Progress
from tracestill.records.layout import Job, log_path
from tracestill.run.errors import StageError, StoppedError
from tracestill.run.listener import Listener

EVENTS, PARENT = "TRACESTILL_EVENTS", "TRACESTILL_PARENT"
# trl, vLLM and huggingface_hub tell their makers of every use otherwise.
_QUIET = {"DO_NOT_TRACK": "1"}


def run_job(job: Job, run: Path, lock: int, listener: Listener, *more: str) -> None:
    """Run a stage, or a pilot with its arguments `more`, in a process of its own that holds the
    run's lock, and pass its progress on.

    Raises:
        StageError: it failed, or was killed.
        StoppedError: the user pressed Ctrl-C. It was let to keep what it had finished.

    """
    log = log_path(run, job)
    log.parent.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    environment = {**os.environ, **_QUIET, EVENTS: str(write_end), PARENT: str(os.getpid())}
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in the terminal reaches the parent only, which passes it on.
        child = subprocess.Popen(
            [sys.executable, "-m", "tracestill.run.child", job, str(run), *more],
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
                    if "error" in event:
                        message = event["error"]
                    else:
                        listener.progress(job, Progress(**event))
                break
            except KeyboardInterrupt:
                child.send_signal(signal.SIGKILL if interrupted else signal.SIGINT)
                listener.stopping(job)
                interrupted = True
    status = child.wait()
    if interrupted:
        raise StoppedError(job)
    if status != 0:
        if status < 0 and not message:
            name = signal.Signals(-status).name
            message = f"the stage's process was ended by {name}" + (
                "; the machine may be out of memory" if name == "SIGKILL" else ""
            )
        raise StageError(job, message or f"the stage ended with status {status}", log)
