"""Run one program in the process that was confined for it: this is where a model's code runs.

What the program can reach here it may also change: the channel, these functions, every builtin.
So nothing here decides, and nothing here is secret.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import json
import os
import resource
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from filter.verify.code.inside import wire
from filter.verify.code.inside.wire import Message

RECURSION = 50_000  # as deep as LiveCodeBench's runner allows
FILE_BYTES = 16 * 2**20  # that a program may write to a file, or print
_STACK_BYTES = 64 * 2**20


class Job(TypedDict, total=False):
    """What to do in a process. `sources` are texts to run one after another in the same module;
    only `calls` has several. `name` and `prompt` are for the modes that have them.
    """

    mode: Literal["program", "calls", "check"]
    sources: list[str]
    prelude: bool  # whether the program finds the names of `prelude`
    name: str
    prompt: str


def limit(limits: Mapping[int, int]) -> None:
    """Lower this process's limits (`resource.RLIMIT_…`), as far as they are not lower, for good."""
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    # Programs that recurse deeply raise this one themselves, as judges with a large stack allow.
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    soft = _STACK_BYTES if hard == resource.RLIM_INFINITY else min(_STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


def run(job: Job) -> None:
    """Do a job and end the process. `job["mode"]` is one of

    - `program`: run the program with its input on 0 and its output on 1;
    - `calls`: load the sources, then reply to each line on 0, a call of the function `name`, on 1;
    - `check`: load `prompt` and the test, where `name` is a stand-in that sends each call to 1 and
      reads the reply from 0, and call `check` with it, if there is one; the last line says how it
      ended.
    """
    sys.setrecursionlimit(RECURSION)
    sys.set_int_max_str_digits(0)  # a problem may want a number of any length
    module = types.ModuleType("__main__" if job["mode"] == "program" else "solution")
    sys.modules[module.__name__] = module
    namespace = module.__dict__
    if job["prelude"]:
        namespace.update(prelude())
    code = 0
    try:
        {"program": _program, "calls": _calls, "check": _check}[job["mode"]](job, namespace)
        threading._shutdown()  # type: ignore[attr-defined]  # waits, as the interpreter does
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _execute(source: str, file: str, namespace: dict[str, Any]) -> None:
    """Run a text as a module of its own, whatever this one imports from `__future__`."""
    exec(compile(source, file, "exec", dont_inherit=True), namespace)


def _program(job: Job, namespace: dict[str, Any]) -> None:
    [source] = job["sources"]
    _execute(source, "program.py", namespace)


def _calls(job: Job, namespace: dict[str, Any]) -> None:
    channel = _Channel()
    namespace.pop(job["name"], None)  # operator.add is not the program's add
    try:
        function = _load(job["sources"], namespace, job["name"])
    except BaseException as error:
        channel.send({"raised": _describe(error)})
        return
    channel.send({"loaded": True})
    while (request := channel.receive()) is not None:
        try:
            named = wire.unpack(request.get("named")) or {}
            value = function(*wire.unpack(request["arguments"]), **named)
            channel.send({"value": wire.pack(value)})
        except BaseException as error:
            channel.send({"raised": _describe(error)})


def _load(sources: list[str], namespace: dict[str, Any], name: str) -> Callable[..., Any]:
    """The function of that name, or the method of that name of a class `Solution`. Where an example
    of its use fails after it was defined, it can be called all the same.
    """
    failure: BaseException | None = None
    for source in sources:
        try:
            _execute(source, "program.py", namespace)
        except SyntaxError as error:
            failure = error
            if f"def {name}" in source:  # an earlier version of it does not count
                namespace.pop(name, None)
                namespace.pop("Solution", None)
        except BaseException as error:
            failure = error
    if name in namespace:
        found: Callable[..., Any] = namespace[name]
        return found
    if hasattr(namespace.get("Solution"), name):
        method: Callable[..., Any] = getattr(namespace["Solution"](), name)
        return method
    raise failure or NameError(f"name {name!r} is not defined")


def _check(job: Job, namespace: dict[str, Any]) -> None:
    channel = _Channel()
    [source] = job["sources"]

    def candidate(*arguments: Any, **named: Any) -> Any:
        channel.send({"arguments": wire.pack(arguments), "named": wire.pack(named)})
        reply = channel.receive()
        assert reply is not None
        if "raised" in reply:
            raise _exception(*reply["raised"])
        return wire.unpack(reply["value"])

    try:
        with contextlib.suppress(SyntaxError):  # a prompt in words
            _execute(job["prompt"], "prompt.py", namespace)
        namespace[job["name"]] = candidate
        _execute(source, "test.py", namespace)
        if "check" in namespace:
            namespace["check"](candidate)
    except BaseException as error:
        channel.send({"failed": [*_describe(error), _line_of(error, source)]})
    else:
        channel.send({"passed": True})


def _exception(name: str, text: str) -> Exception:
    """What the program raised, as far as it is one of Python's own exceptions, but not those that
    end a loop: a test that goes through `map(candidate, …)` would end early, and pass.
    """
    kind = getattr(builtins, name, None)
    ends_loops = name in ("StopIteration", "StopAsyncIteration")
    if isinstance(kind, type) and issubclass(kind, Exception) and not ends_loops:
        with contextlib.suppress(TypeError):  # some want more than a text
            return kind(text)
    return RuntimeError(f"{name}: {text}")


def _describe(error: BaseException) -> list[str]:
    return [type(error).__name__[:100], str(error)[:300]]


def _line_of(error: BaseException, source: str) -> str:
    """The line of the test that failed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == "test.py"]
    number = frames[-1].lineno if frames else None
    return source.splitlines()[number - 1].strip()[:200] if number else ""


class _Channel:
    """Lines of JSON from the process's input and to its output."""

    def __init__(self) -> None:
        self._out, self._lines = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):  # which are the program's
            os.dup2(null, number)

    def send(self, message: Message) -> None:
        self._out.write(json.dumps(message).encode() + b"\n")
        self._out.flush()

    def receive(self) -> Message | None:
        line = self._lines.readline()
        return json.loads(line) if line else None


_STARRED = (
    "string", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics",
    "itertools", "functools", "operator", "typing",
)  # fmt: skip
_NAMED = (
    *_STARRED, "re", "sys", "os", "io", "json", "time", "decimal", "fractions", "queue", "array",
    "dataclasses", "enum", "abc",
)  # fmt: skip
_names: dict[str, Any] = {}


def prelude() -> dict[str, Any]:
    """The names that LiveCodeBench's problems take for granted: what its harness imports before
    every program, the standard library's modules for algorithms and what they export.
    """
    if not _names:
        for module in _STARRED:
            loaded = __import__(module)
            public = getattr(loaded, "__all__", None) or [n for n in vars(loaded) if n[0] != "_"]
            _names.update({name: getattr(loaded, name) for name in public})
        _names.update({name: __import__(name) for name in _NAMED})
        for name in vars(builtins):
            _names.pop(name, None)  # such as math.pow and operator.abs
    return _names
