"""Several processes that train together: started, watched and ended as one."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from finetune import group, sharding
from finetune.config import FinetuneSection, Launch
from finetune.monitor import Judge
from finetune.render import Example

Progress = Callable[[dict[str, Any]], None]

# Ctrl-C in a terminal reaches them too: it is for the parent, which ends them.
_MEMBER = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from finetune.launch import member; member()"
)
# When one fails, the others fail of it, or wait for it forever. How long they are given to tell,
# in seconds.
_GRACE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The arguments of `finetune.train.train`, but for the callback."""

    examples: Sequence[Example]
    settings: FinetuneSection
    student: str
    template: Path
    folder: Path
    seed: int
    name: str
    judge: Judge | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """Why a process failed, and when, by the machine's clock; `trace` is for the log."""

    at: float
    error: Exception
    trace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figures:
    """What a process that is done returns."""

    values: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class _Member:
    """A process as its parent sees it. Through `inbox` come progress, then how it ended."""

    rank: int
    process: subprocess.Popen[bytes]
    inbox: Connection
    failure: _Failure | None = None


def train_together(training: Training, progress: Progress) -> dict[str, Any]:
    """Train in `settings.launch.gpus` processes, and return what the first returns.

    They end when this process does, however it ends.

    Raises:
        ValueError: there are fewer GPUs; or what a process raised. Of several that fail it is the
            error of the one that failed first; so with other exceptions of Python's own.
        RuntimeError: a process raised another error, or was killed.

    """
    launch = training.settings.launch
    _check_gpus(launch)
    with tempfile.TemporaryDirectory(prefix="tracestill-") as folder:
        members: list[_Member] = []
        try:
            for rank in range(launch.gpus):
                members.append(_start(rank, launch, Path(folder) / "meeting"))
            what = pickle.dumps(training)
            for member in members:
                _hand(member, what)
            return _watch(members, progress)
        finally:
            for member in members:
                member.process.kill()
                member.process.wait()
                member.inbox.close()
                with contextlib.suppress(BrokenPipeError):
                    _stdin(member).close()


def _check_gpus(launch: Launch) -> None:
    import torch

    seen = torch.cuda.device_count()
    if torch.cuda.is_available() and seen < launch.gpus:
        raise ValueError(
            f"finetune.launch.gpus: {launch.gpus} are asked for and {seen} can be seen here; set "
            f"it to {seen}, or look at CUDA_VISIBLE_DEVICES"
        )


def _start(rank: int, launch: Launch, meeting: Path) -> _Member:
    inbox, outbox = Pipe(duplex=False)
    with outbox:
        cores = max(1, len(os.sched_getaffinity(0)) // launch.gpus)
        environment = {"OMP_NUM_THREADS": str(cores), **os.environ}
        if launch.sharded:
            environment |= sharding.ENVIRONMENT
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MEMBER,
             str(rank), str(launch.gpus), str(meeting), str(outbox.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=(outbox.fileno(),),
            env=environment,
        )  # fmt: skip
    return _Member(rank=rank, process=process, inbox=inbox)


def _stdin(member: _Member) -> Any:
    assert member.process.stdin
    return member.process.stdin


def _hand(member: _Member, what: bytes) -> None:
    # One that is dead already is found when it is watched.
    with contextlib.suppress(BrokenPipeError):
        _stdin(member).write(what)
        # It stays open: that it closes tells a process that its parent is gone.
        _stdin(member).flush()


def _watch(members: Sequence[_Member], progress: Progress) -> dict[str, Any]:
    """Pass on the first's progress, until all of them are done or one failed."""
    figures: dict[str, Any] = {}
    running = list(members)
    while running:
        for member in _with_news(running, None):
            match news := _receive(member):
                case _Figures() if member.rank == 0:
                    figures = news.values
                case dict():
                    progress(news)
                case _Failure():
                    raise _first_failure(members)
                case None if member.process.wait() != 0:
                    raise _first_failure(members)
                case None:
                    running.remove(member)
    return figures


def _with_news(members: Sequence[_Member], seconds: float | None) -> list[_Member]:
    """Those that sent something or ended, as soon as there are any."""
    ready = wait([member.inbox for member in members], seconds)
    return [member for member in members if member.inbox in ready]


def _receive(member: _Member) -> dict[str, Any] | _Figures | _Failure | None:
    """What a process sent; None when it is gone."""
    try:
        news: dict[str, Any] | _Figures | _Failure = member.inbox.recv()
    except EOFError:
        return None
    if isinstance(news, _Failure):
        member.failure = news
    return news


def _first_failure(members: Sequence[_Member]) -> Exception:
    """The error of the process that failed first, which is why the others did."""
    until = time.monotonic() + _GRACE
    waiting = [member for member in members if member.failure is None]
    while waiting and (left := until - time.monotonic()) > 0:
        for member in _with_news(waiting, left):
            news = _receive(member)
            if news is None:
                member.process.wait()
            if news is None or member.failure:
                waiting.remove(member)
    for member in members:
        # It could tell nothing, and the others miss it: they failed later.
        if member.failure is None and (status := member.process.poll()):
            return RuntimeError(f"process {member.rank + 1} of {len(members)} {_ended(status)}")
    first = min((m.failure for m in members if m.failure), key=lambda failure: failure.at)
    first.error.add_note(first.trace)
    return first.error


def _ended(status: int) -> str:
    if status > 0:
        return f"ended with status {status}"
    more = "; the machine may be out of memory" if status == -signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-status).name}{more}"


def member() -> None:
    """Be one of the processes: the entry of `_MEMBER`."""
    rank, world, outbox = int(sys.argv[1]), int(sys.argv[2]), Connection(int(sys.argv[4]))
    training: Training = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    status = 0
    try:
        from finetune.train import train_here

        group.join(rank, world, Path(sys.argv[3]))
        figures = train_here(training, outbox.send)
        outbox.send(_Figures(values=figures))
    except Exception as error:
        # The boundary of the process: its parent tells the user.
        outbox.send(_Failure(at=time.monotonic(), error=_plain(error), trace=_trace(error)))
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # What the libraries' threads would say of the others that are gone is of no use.
    os._exit(status)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGKILL)


def _plain(error: Exception) -> Exception:
    """An error that the parent can be given: its own, if it is one of Python's."""
    if type(error).__module__ == "builtins":
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _trace(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
