"""Judge answers to reasoning-gym's problems by the scorers that come with its generators."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from filter.extract import last_boxed
from filter.verify.judgement import Judgement, Verifier
from filter.verify.pools import shared_pool
from filter.verify.worker import Pool, WorkerError
from tracestill.records import Problem

_MEMORY = 900 * 2**20  # address space of a process that scores; all families at once take 225
_MAX_ANSWER = 100_000  # characters; the longest of a problem's own are some thousands
_META = ("family", "config", "entry")
_EXAMPLES = ("possible_answer", "example_answer", "example_correct_answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the scorer is asked: the problem as JSON, and the answer."""

    extracted: str
    row: tuple[str, str]


def reasoning_gym(seconds: float = 5.0) -> Verifier:
    r"""A verifier that scores what stands in the answer's last `\boxed{…}`.

    `Problem.meta` holds `family`, `config` and `entry` (`question`, `answer`, `metadata`), as
    they are or after a way through JSON. Only a score of 1 is correct, and only where it is
    deserved: see `filter.verify.gym_doubts`. The scorers run in processes of their own for at most
    `seconds` an answer; one that raises or takes longer gives `error`. What some of them would
    run as code is looked at first: see `filter.verify.gym_guard`.
    """

    def judge(problem: Problem, answer: str | None) -> Judgement:
        asked = _ask(problem, answer)
        if isinstance(asked, Judgement):
            return asked
        try:
            value = _pool(seconds, None).call(*asked.row)
        except WorkerError as error:
            value = error
        return _judgement(asked, value)

    return judge


def reasoning_gym_many(
    pairs: Iterable[tuple[Problem, str | None]], *, seconds: float = 5.0, workers: int | None = None
) -> list[Judgement]:
    """Judge many answers as `reasoning_gym` does, in order, in batches and in `workers` processes
    (None: one a core). What fails on a row is told in that row.

    Raises:
        RuntimeError: the processes can't be started.

    """
    found = [_ask(problem, answer) for problem, answer in pairs]
    rows = [item.row for item in found if isinstance(item, _Asked)]
    values = iter(_pool(seconds, workers).map(rows) if rows else ())
    return [
        item if isinstance(item, Judgement) else _judgement(item, next(values)) for item in found
    ]


def own_answer(problem: Problem) -> str | None:
    """The answer that the problem's entry holds, or its example of one where several are right;
    None where it holds none.
    """
    entry = problem.meta.get("entry", {})
    if entry.get("answer") is not None:
        return str(entry["answer"])
    for name in _EXAMPLES:
        example = entry.get("metadata", {}).get(name)
        if example:
            return example if isinstance(example, str) else json.dumps(example)
    return None


def _pool(seconds: float, workers: int | None) -> Pool:
    opener = "filter.verify.gym_scoring:open_scorer"
    return shared_pool(opener, seconds=seconds, workers=workers, memory=_MEMORY)


def _ask(problem: Problem, answer: str | None) -> Judgement | _Asked:
    """What to ask the scorer, or a judgement where there is nothing to ask."""
    lacking = [name for name in _META if name not in problem.meta]
    if lacking:
        detail = f"the problem's meta has no {' and no '.join(lacking)}"
        return Judgement(outcome="unverifiable", detail=detail)
    extracted = _boxed(answer or "")
    if extracted is None:
        return Judgement(outcome="incorrect", detail="no \\boxed{…} in the answer")
    if len(extracted) > _MAX_ANSWER:
        detail = f"the answer is longer than {_MAX_ANSWER} characters"
        return Judgement(outcome="incorrect", extracted=extracted[:_MAX_ANSWER], detail=detail)
    try:
        asked = json.dumps([problem.meta[name] for name in _META], default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        detail = f"the problem's meta is not JSON: {error}"
        return Judgement(outcome="unverifiable", extracted=extracted, detail=detail)
    return _Asked(extracted=extracted, row=(asked, extracted))


def _boxed(text: str) -> str | None:
    """What stands in the last box. Where that is JSON it ends where the JSON does: braces in its
    strings, which need no partner, are none of the box's.
    """
    begin = text.rfind("\\boxed{") + len("\\boxed{")
    if text[begin : begin + 10].lstrip()[:1] in ("{", "[") and begin >= len("\\boxed{"):
        begin += len(text[begin:]) - len(text[begin:].lstrip())
        try:
            end = json.JSONDecoder().raw_decode(text, begin)[1]
        except (ValueError, RecursionError):
            return last_boxed(text)
        if text[end:].lstrip().startswith("}"):
            return text[begin:end]
    return last_boxed(text)


def _plain(value: Any) -> Any:
    """A NumPy scalar or array as Python's own; anything else as text, as in the problem files."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _judgement(asked: _Asked, value: Any) -> Judgement:
    if isinstance(value, WorkerError):
        return Judgement(outcome="error", extracted=asked.extracted, detail=str(value))
    outcome, detail = value
    return Judgement(outcome=outcome, extracted=asked.extracted, detail=detail)
