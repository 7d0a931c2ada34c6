"""Answers judged, and traces valued, by functions of the user's own.

They run in processes of their own (`filter.verify.worker`): one that never returns, takes all
memory or ends its process costs the row that it was asked about, and nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from filter.verify.grading import Grade, Pair
from filter.verify.pool import shared_pool
from filter.verify.worker import MEMORY, Result
from tracestill.recipe.functions import Function
from tracestill.records import Problem, TraceText

SECONDS = 30.0  # for one answer or trace
_OUTCOMES = {True: "correct", False: "incorrect", None: "unverifiable"}
_loaded: dict[tuple[str, str, str], Callable[..., Any]] = {}


def check_own(function: Function) -> None:
    """Load a function, as each process that calls it does.

    Raises:
        ValueError: it can't be loaded.
        RuntimeError: a process can't be started.

    """
    if (error := _ask(function, "load", [()])[0].error) is not None:
        raise ValueError(f"{function.path} can't be loaded: {error}")


def own_many(function: Function, pairs: Iterable[Pair]) -> list[Grade]:
    """Grades of many answers, in order, on all cores: `function(problem, answer)` is given the
    `Problem` and the text after the reasoning. It returns True, False, or None where it can't tell,
    alone or in a tuple before the reason. One that raises, or takes longer than `SECONDS`, gives
    the outcome `error`. Where there is no answer it is not asked.

    Raises:
        RuntimeError: a process can't be started.

    """
    pairs = list(pairs)
    rows = [(_written(problem), answer) for problem, answer in pairs if (answer or "").strip()]
    results = iter(_ask(function, "judge", rows))
    return [
        _grade(next(results))
        if (answer or "").strip()
        else Grade(outcome="incorrect", detail="no answer")
        for _, answer in pairs
    ]


def own_values(
    function: Function, problems: Sequence[Problem], traces: Sequence[TraceText]
) -> list[float | None]:
    """What `function(problem, trace)` gives for each trace and its problem: a number, or None where
    there is none.

    Raises:
        ValueError: the function fails on a trace; the line says on which.
        RuntimeError: a process can't be started.

    """
    rows = [
        (_written(problem), _written(trace))
        for problem, trace in zip(problems, traces, strict=True)
    ]
    results = _ask(function, "value", rows)
    for trace, result in zip(traces, results, strict=True):
        if result.error is not None:
            where = f"{function.path}: {function.name}"
            raise ValueError(f"{where} fails on trace {trace.id}: {result.error}")
    return [result.value for result in results]


def _ask(function: Function, what: str, rows: Sequence[tuple[Any, ...]]) -> list[Result]:
    if not rows:
        return []
    named = (what, function.path, function.name, function.content)
    pool = shared_pool("filter.verify.own:open_own", seconds=SECONDS, workers=None, memory=MEMORY)
    return pool.map([(*named, *row) for row in rows])


def _written(record: Problem | TraceText) -> str:
    return json.dumps(dataclasses.asdict(record), default=str)


def _grade(result: Result) -> Grade:
    if result.error is not None:
        return Grade(outcome="error", detail=result.error, seconds=result.seconds)
    outcome, detail = result.value
    return Grade(outcome=outcome, detail=detail, seconds=result.seconds)


def open_own() -> Callable[..., Any]:
    """The function that a process serves; it loads each of the user's when it is first asked."""
    return _serve


def _serve(what: str, path: str, name: str, content: str, *texts: str) -> Any:
    function = _load(path, name, content)
    if what == "load":
        return None
    problem = Problem(**json.loads(texts[0]))
    if what == "judge":
        return _outcome(function(problem, texts[1]), name)
    return _number(function(problem, TraceText(**json.loads(texts[1]))), name)


def _load(path: str, name: str, content: str) -> Callable[..., Any]:
    key = (path, name, content)
    if key not in _loaded:
        file = Path(path)
        if hashlib.sha256(file.read_bytes()).hexdigest() != content:
            raise RuntimeError(f"{path} was changed while it is used")
        sys.path.insert(0, str(file.parent))  # what it imports from beside it
        module_name = f"own_{content[:12]}_{file.stem}"  # no other module's
        spec = importlib.util.spec_from_file_location(module_name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
        _loaded[key] = getattr(module, name)
    return _loaded[key]


def _outcome(value: Any, name: str) -> tuple[str, str]:
    said, detail = value if isinstance(value, tuple) and len(value) == 2 else (value, "")
    if said is not None and type(said).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{name} returned {value!r}: it returns True, False or None")
    return _OUTCOMES[None if said is None else bool(said)], str(detail)


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} returned {value!r}: it returns a number or None") from error
