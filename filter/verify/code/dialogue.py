"""Run a program in bubblewrap, alone or in dialogue: all that it says is data of bounded size."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from dataclasses import dataclass

from filter.verify.code.bubblewrap import Bubblewrap, Ending, memory_file
from filter.verify.code.inside.runner import FILE_BYTES, Job
from filter.verify.code.inside.wire import Message

MESSAGE_BYTES = 8 * 2**20
MESSAGE_LISTS = 10**6  # more of them take longer to read than a limit of time may be outlived
_TAIL_BYTES = 2048
_PART = 1 << 16


class ProgramError(Exception):
    """The program failed; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a program printed (at most `most` bytes) and how it ended; `errors` is the end of what
    it wrote there.
    """

    output: bytes
    errors: str
    ending: Ending
    most: int = FILE_BYTES


def program(source: str) -> Job:
    """The job of running a program."""
    return {"mode": "program", "sources": [source], "prelude": True}


def run_job(sandbox: Bubblewrap, job: Job, text: str, seconds: float) -> Run:
    """Do a job with a text as its input for at most `seconds`. What it prints goes to files in
    memory, which a limit of the kernel keeps from growing.

    Raises:
        SandboxError: the sandbox failed.

    """
    given = memory_file(text.encode(errors="surrogatepass"))
    with (
        open(given, "rb") as stdin,
        open(os.memfd_create("output", os.MFD_CLOEXEC), "w+b") as out,
        open(os.memfd_create("errors", os.MFD_CLOEXEC), "w+b") as err,
    ):
        sandbox.start(job, [stdin.fileno(), out.fileno(), err.fileno()], seconds)
        ending = sandbox.ending()
        output = os.pread(out.fileno(), FILE_BYTES + 1, 0)
        size = os.fstat(err.fileno()).st_size
        errors = os.pread(err.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    if max(len(output), size) > FILE_BYTES:
        ending = Ending(code=ending.code, why="output")
    return Run(output=output, errors=errors.decode(errors="replace"), ending=ending)


class Dialogue:
    """A process in a sandbox that takes and gives messages, each a JSON object on a line, for at
    most `seconds` in all.
    """

    def __init__(self, sandbox: Bubblewrap, job: Job, seconds: float) -> None:
        self._sandbox = sandbox
        self._channel, theirs = socket.socketpair()
        self._seconds, self._end = seconds, time.monotonic() + seconds
        self._rest = b""
        with theirs, open(os.devnull, "r+b", buffering=0) as null:
            sandbox.start(job, [theirs.fileno(), theirs.fileno(), null.fileno()], seconds)

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            ProgramError: it does not take it.

        """
        self._wait()
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError:
            raise ProgramError("timed out") from None
        except OSError:
            raise ProgramError(self._how_it_ended()) from None

    def receive(self) -> Message:
        """The next message.

        Raises:
            ProgramError: there is none, or what comes is no message.

        """
        parts, size = [self._rest], len(self._rest)
        while b"\n" not in parts[-1]:
            self._wait()  # each time: one that drips its message would never be late for a part
            try:
                part = self._channel.recv(_PART)
            except TimeoutError:
                raise ProgramError("timed out") from None
            except OSError:
                part = b""
            if not part:
                raise ProgramError(self._how_it_ended())
            parts.append(part)
            size += len(part)
            if size > MESSAGE_BYTES:
                raise ProgramError("the value is too large")
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return read_message(line)

    def _wait(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise ProgramError("timed out")
        self._channel.settimeout(left)

    def close(self) -> None:
        """End the process.

        Raises:
            SandboxError: the sandbox failed.

        """
        self._channel.close()
        if not self._sandbox.closed and self._sandbox.busy:
            self._sandbox.stop()
            self._sandbox.ending()

    def _how_it_ended(self) -> str:
        self._sandbox.stop()
        return silence(self._sandbox.ending(), self._seconds)


def read_message(line: bytes) -> Message:
    """A message from its line.

    Raises:
        ProgramError: it is none.

    """
    if len(line) > MESSAGE_BYTES or line.count(b"[") + line.count(b"{") > MESSAGE_LISTS:
        raise ProgramError("the value is too large")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise ProgramError("the value is unreadable") from None
    if not isinstance(message, dict):
        raise ProgramError("the value is unreadable")
    return message


def checked_reply(reply: Message) -> Message:
    """Of a program's reply only what a test that is code expects.

    Raises:
        ProgramError: that is not in it.

    """
    if "raised" in reply:
        return {"raised": exception_pair(reply["raised"])}
    if "value" not in reply:
        raise ProgramError("the value is unreadable")
    return {"value": reply["value"]}


def exception_pair(described: object) -> list[str]:
    """The name and text of an exception that a program raised.

    Raises:
        ProgramError: it is described otherwise.

    """
    match described:
        case [str(name), str(text)]:
            return [name, text]
    raise ProgramError("the value is unreadable")


def describe(ending: Ending, seconds: float, most: int = FILE_BYTES) -> str | None:
    """What was wrong with an ending; None for a good one."""
    match ending.why:
        case "time":
            return f"timed out after {seconds:g} s"
        case "memory":
            return "used too much memory"
        case "output":
            return f"printed more than {most >> 20} MB"
    # One that was told to end may have been dying of something else, which its code tells.
    if ending.code < 0 and (ending.why, ending.code) != ("told", -signal.SIGKILL):
        return f"was killed by signal {-ending.code}"
    return f"ended with code {ending.code}" if ending.code > 0 else None


def silence(ending: Ending, seconds: float) -> str:
    """Why a process that had to reply said no more."""
    if ending.why == "output":
        return "the value is too large"
    return describe(ending, seconds) or "it ended without an answer"
