"""The values by which traces are selected, for some of a table's places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from filter.steps.step import Places, Student, View
from filter.verify.own import own_values
from tracestill.recipe.functions import read_function
from tracestill.recipe.selection import Select
from tracestill.records import Problem, Score, TraceText

Values = npt.NDArray[np.float64]
"""One for each place, NaN where there is none."""

_AT_ONCE = 2_000  # traces that the student is given together
_CHARACTERS = 32_000_000  # of them
RANDOM, BRANCHES = "random", "branches"  # what is measured of each trace by itself


def values_of(settings: Select, view: View, places: Places) -> Values:
    """By which the selection orders the traces at these places, the lowest first unless it is said
    otherwise: for `longest` and `naturalness` the highest.
    """
    if settings.by in ("shortest", "longest"):
        return token_counts(settings, view, places).astype(np.float64)
    if settings.by == "random":
        return uniform(view, places)
    if settings.by == "branches":
        return view.measured(BRANCHES, 0)[places].view(np.float64)
    if settings.by == "pass_rate":
        return view.rates()[view.index.problems[places]]
    if settings.by == "student_pass_rate":
        return _student_rates(view, places)
    if settings.own:
        return _own(settings, view, places)
    if settings.scored:
        return _scored(settings, view, places)
    return np.arange(len(places), dtype=np.float64)


def uniform(view: View, places: Places) -> Values:
    """Random numbers in (0, 1), which depend on nothing but a trace's identity and the seed."""
    return (view.measured(RANDOM, 0)[places].astype(np.float64) + 0.5) / 2.0**64


def token_counts(settings: Select, view: View, places: Places) -> npt.NDArray[np.int64]:
    """The tokens of traces, as the selection counts them."""
    return (
        student_tokens(view, places) if settings.count == "student" else view.index.tokens[places]
    )


def student_tokens(view: View, places: Places) -> npt.NDArray[np.int64]:
    """The tokens of reasoning and answer in the student's tokenizer."""
    student = _student(view)
    return np.array(_asked(view, places, student.tokens), np.int64)


def _own(settings: Select, view: View, places: Places) -> Values:
    function = read_function(settings.by)
    by_id = {problem.id: problem for problem in view.problems}

    def ask(traces: list[TraceText]) -> list[float]:
        asked = [by_id[trace.problem_id] for trace in traces]
        values = own_values(function, asked, traces)
        return [np.nan if value is None else value for value in values]

    return np.array(_asked(view, places, ask), np.float64)


def _student_rates(view: View, places: Places) -> Values:
    numbers, at = np.unique(view.index.problems[places], return_inverse=True)
    asked: list[Problem] = [view.problems[number] for number in numbers]
    rates = _student(view).pass_rates(asked)
    return np.array([np.nan if rate is None else rate for rate in rates])[at]


def _scored(settings: Select, view: View, places: Places) -> Values:
    local, student = settings.by == "naturalness", _student(view)

    def scores(traces: list[TraceText]) -> list[float]:
        return [_value(settings, score) for score in student.scores(traces, local=local)]

    return np.array(_asked(view, places, scores))


def _value(settings: Select, score: Score | None) -> float:
    if score is None:
        return np.nan
    if settings.by == "rsr":
        return score.rsr
    if settings.by == "surprisal":
        return score.surprisal
    return np.nan if score.local is None else score.local


def _asked(view: View, places: Places, ask: Callable[[list[TraceText]], Any]) -> list[Any]:
    """What `ask` says of the traces at these places, in their order."""
    ordered = np.sort(places)
    said = [one for traces in _some(view, ordered) for one in ask(traces)]
    found: list[Any] = [said[at] for at in np.searchsorted(ordered, places)]
    return found


def _some(view: View, places: Places) -> Iterator[list[TraceText]]:
    held: list[TraceText] = []
    size = 0
    for _, traces in view.texts(places):
        held += traces
        size += sum(len(trace.reasoning or "") + len(trace.answer or "") for trace in traces)
        if len(held) >= _AT_ONCE or size >= _CHARACTERS:
            yield held
            held, size = [], 0
    if held:
        yield held


def _student(view: View) -> Student:
    assert view.student is not None, "the filter is given the student where a step needs it"
    return view.student
