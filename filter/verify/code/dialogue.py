"""Run a program in bubblewrap, alone or in dialogue: all that it says is data of bounded size."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from filter.verify.code.bubblewrap import GRACE, Bubblewrap, Ending, memory_file
from filter.verify.code.inside.runner import Job
from filter.verify.code.inside.wire import Message

OUTPUT_BYTES = 16 * 2**20
MESSAGE_BYTES = 8 * 2**20
MESSAGE_LISTS = 10**6  # more of them take longer to read than a limit of time may be outlived
_TAIL_BYTES = 2048
_PART = 1 << 16


class ProgramError(Exception):
    """The program failed; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a program printed and how it ended; `errors` is the end of what it wrote there."""

    output: bytes
    errors: str
    ending: Ending


def run_program(sandbox: Bubblewrap, source: str, text: str, seconds: float) -> Run:
    """Run a program with a text as its input for at most `seconds`.

    Raises:
        SandboxError: the sandbox failed.

    """
    job: Job = {"mode": "program", "sources": [source], "prelude": True}
    output, errors = bytearray(), bytearray()
    with contextlib.ExitStack() as stack:
        stdin = stack.enter_context(_closing(memory_file(text.encode(errors="surrogatepass"))))
        null = stack.enter_context(_closing(os.open(os.devnull, os.O_RDWR)))
        from_out, out = os.pipe()
        stack.enter_context(_closing(from_out))
        from_err, err = os.pipe()
        stack.enter_context(_closing(from_err))
        with _closing(out), _closing(err):
            sandbox.start(job, [stdin, out, err, null], seconds)
        selector = stack.enter_context(selectors.DefaultSelector())
        for descriptor in (from_out, from_err, sandbox.control):
            selector.register(descriptor, selectors.EVENT_READ)
        end, too_much, ended = time.monotonic() + seconds + GRACE, False, False
        while not ended and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.fd == sandbox.control:
                    ended = True
                elif not (part := os.read(key.fd, _PART)):
                    selector.unregister(key.fd)
                elif key.fd == from_err:
                    errors = (errors + part)[-_TAIL_BYTES:]
                else:
                    output += part
                    if len(output) > OUTPUT_BYTES and not too_much:
                        too_much = True
                        sandbox.stop()
                        selector.unregister(key.fd)
        ending = sandbox.ending()
        # All that was written is there now. What may still hold a pipe open, though no process
        # does, is not to be waited for: a descriptor under way in a socket that nobody has.
        for descriptor, kept in ((from_out, output), (from_err, errors)):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(BlockingIOError):
                while len(kept) <= OUTPUT_BYTES and (part := os.read(descriptor, _PART)):
                    kept += part
    if len(output) > OUTPUT_BYTES:
        ending = Ending(code=ending.code, why="output")
    tail = bytes(errors[-_TAIL_BYTES:]).decode(errors="replace")
    return Run(output=bytes(output), errors=tail, ending=ending)


class Dialogue:
    """A process in a sandbox that takes and gives messages, each a JSON object on a line."""

    def __init__(self, sandbox: Bubblewrap, job: Job, seconds: float) -> None:
        self._sandbox = sandbox
        self._channel, theirs = socket.socketpair()
        self._seconds = seconds
        self._rest = b""
        with theirs, _closing(os.open(os.devnull, os.O_RDWR)) as null:
            sandbox.start(job, [null, null, null, theirs.fileno()], seconds)

    def send(self, message: Message, end: float) -> None:
        """Send a message.

        Raises:
            ProgramError: it does not take it by `end`, in terms of `time.monotonic()`.

        """
        try:
            self._channel.settimeout(max(0.001, end - time.monotonic()))
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError:
            raise ProgramError("timed out") from None
        except OSError:
            raise ProgramError(self._how_it_ended()) from None

    def receive(self, end: float) -> Message:
        """The next message.

        Raises:
            ProgramError: there is none by `end`, or what comes is no message.

        """
        parts = [self._rest]
        size = len(self._rest)
        while b"\n" not in parts[-1]:
            left = end - time.monotonic()
            if left <= 0:  # each time: one that drips its message would never be late for a part
                raise ProgramError("timed out")
            try:
                self._channel.settimeout(left)
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
        return describe(self._sandbox.ending(), self._seconds) or "it ended without an answer"


def read_message(line: str | bytes) -> Message:
    """A message from its line.

    Raises:
        ProgramError: it is none.

    """
    line = line.encode(errors="surrogatepass") if isinstance(line, str) else line
    if line.count(b"[") + line.count(b"{") > MESSAGE_LISTS:
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


def describe(ending: Ending, seconds: float) -> str | None:
    """What was wrong with an ending; None for a good one."""
    match ending.why:
        case "time":
            return f"timed out after {seconds:g} s"
        case "memory":
            return "used too much memory"
        case "output":
            return f"printed more than {OUTPUT_BYTES >> 20} MB"
    # One that was told to end may have been dying of something else, which its code tells.
    if ending.code < 0 and (ending.why, ending.code) != ("told", -signal.SIGKILL):
        return f"was killed by signal {-ending.code}"
    return f"ended with code {ending.code}" if ending.code > 0 else None


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
