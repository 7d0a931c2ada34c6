"""Run a function in several processes that train together: started, watched and ended as one."""

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
from typing import Any, TypeVar

from finetune import group, sharding
from tracestill.recipe.finetune import Launch
from tracestill.records import OnProgress, Progress

T = TypeVar("T")

# Ctrl-C in a terminal reaches the members too; the parent handles it, and ends them.
_MEMBER = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from finetune.launch import member; member()"
)
# When one member fails, the others fail of it, or wait for it forever. Seconds in which they may
# report.
_GRACE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """Why a member failed, and when by the machine's clock; `trace` is for the log."""

    at: float
    error: Exception
    trace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What the function returned in a member."""

    value: Any


@dataclass(slots=True, kw_only=True)
class _Member:
    """A process as its parent sees it. `inbox` brings progress, then a result or a failure."""

    rank: int
    process: subprocess.Popen[bytes]
    inbox: Connection
    failure: _Failure | None = None


def run_together(work: Callable[[OnProgress], T], launch: Launch, progress: OnProgress) -> T:
    """Call `work` in `launch.gpus` processes, which form a group, and return what it returns in the
    first. `work` is picklable; `progress` is told what the first reports. The processes end when
    this one does, however it ends.

    Raises:
        ValueError: there are fewer GPUs; or what a process raised. If several fail it is the error
            of the one that failed first; so with Python's other built-in exceptions.
        RuntimeError: a process raised another exception, or was killed.

    """
    _check_gpus(launch)
    with tempfile.TemporaryDirectory(prefix="tracestill-") as folder:
        members: list[_Member] = []
        try:
            for rank in range(launch.gpus):
                members.append(_start(rank, launch, Path(folder) / "meeting"))
            pickled = pickle.dumps(work)
            for member in members:
                _hand(member, pickled)
            result: T = _watch(members, progress)
            return result
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


def _hand(member: _Member, pickled: bytes) -> None:
    # A member that is dead already is noticed by `_watch`.
    with contextlib.suppress(BrokenPipeError):
        _stdin(member).write(pickled)
        # It stays open: when it closes, a member knows that its parent is gone.
        _stdin(member).flush()


def _watch(members: Sequence[_Member], progress: OnProgress) -> Any:
    """Pass on the first's progress until all are done or one failed; returns the first's result."""
    result = None
    running = list(members)
    while running:
        for member in _with_news(running, None):
            match news := _receive(member):
                case _Result() if member.rank == 0:
                    result = news.value
                case Progress():
                    progress(news)
                case _Failure():
                    raise _first_failure(members)
                case None if member.process.wait() != 0:
                    raise _first_failure(members)
                case None:
                    running.remove(member)
    return result


def _with_news(members: Sequence[_Member], seconds: float | None) -> list[_Member]:
    """The members that sent something or ended, as soon as there are any."""
    ready = wait([member.inbox for member in members], seconds)
    return [member for member in members if member.inbox in ready]


def _receive(member: _Member) -> Progress | _Result | _Failure | None:
    """What a member sent; None if it is gone."""
    try:
        news: Progress | _Result | _Failure = member.inbox.recv()
    except EOFError:
        return None
    if isinstance(news, _Failure):
        member.failure = news
    return news


def _first_failure(members: Sequence[_Member]) -> Exception:
    """The error of the member that failed first, of which the others failed."""
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
        # It was killed before it could report, and the others failed later, without it.
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
    work: Callable[[OnProgress], object] = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    status = 0
    try:
        group.join(rank, world, Path(sys.argv[3]))
        outbox.send(_Result(value=work(outbox.send)))
    except Exception as error:
        # The boundary of the process: its parent tells the user.
        trace = "".join(traceback.format_exception(error))
        outbox.send(_Failure(at=time.monotonic(), error=_plain(error), trace=trace))
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # Without the libraries' threads, which would complain that the others are gone.
    os._exit(status)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGKILL)


def _plain(error: Exception) -> Exception:
    """The error if it is one of Python's own, which the parent can unpickle; else its text."""
    if type(error).__module__ == "builtins":
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
