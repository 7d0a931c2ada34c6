"""Grade answers to reasoning-gym's problems by the scorers that come with its generators."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from filter.boxes import last_boxed
from filter.verify.grading import Grade, Grader, Pair, Question, grade_with_workers
from filter.verify.pool import shared_pool
from tracestill.records import Problem

_MEMORY = 900 * 2**20  # address space of a process that scores; all families at once take 225
_MAX_ANSWER = 100_000  # characters; the longest of a problem's own are some thousands
_META = ("family", "config", "entry")
_EXAMPLES = ("possible_answer", "example_answer", "example_correct_answer")


def reasoning_gym(seconds: float = 5.0) -> Grader:
    r"""A grader that scores what stands in the answer's last `\boxed{…}`.

    `Problem.meta` holds `family`, `config` and `entry` (`question`, `answer`, `metadata`), as
    reasoning-gym made them, as JSON gave them back, or as JSON text. Only a score of 1 is correct,
    and only where it is deserved: see `filter.verify.gym.checks`. The scorers run in processes of
    their own for at most `seconds` an answer; one that raises or takes longer gives `error`. What
    some of them would evaluate as Python is checked first: see `filter.verify.gym.guard`.
    """
    return lambda problem, answer: reasoning_gym_many([(problem, answer)], seconds=seconds)[0]


def reasoning_gym_many(
    pairs: Iterable[Pair], *, seconds: float = 5.0, workers: int | None = None
) -> list[Grade]:
    """Grade many answers as `reasoning_gym` does, in order, in batches and in `workers` processes
    (None: one a core). A row that fails has the outcome `error`.

    Raises:
        RuntimeError: the processes can't be started.

    """
    pool = shared_pool(
        "filter.verify.gym.scoring:open_scorer", seconds=seconds, workers=workers, memory=_MEMORY
    )
    return grade_with_workers(pairs, _decide, pool.map)


def own_answer(problem: Problem) -> str | None:
    """The answer that the problem's entry holds, or its example of one where several are right;
    None where it holds none.
    """
    entry = _read(_read(problem.meta).get("entry", {}))
    if entry.get("answer") is not None:
        return str(entry["answer"])
    for name in _EXAMPLES:
        example = _read(entry.get("metadata", {})).get(name)
        if example:
            return example if isinstance(example, str) else json.dumps(example)
    return None


def _decide(problem: Problem, answer: str | None) -> Grade | Question:
    """What to ask the scorer, or a grade where there is nothing to ask."""
    meta = _read(problem.meta)
    lacking = [name for name in _META if name not in meta]
    if lacking:
        detail = f"the problem's meta has no {' and no '.join(lacking)}"
        return Grade(outcome="unverifiable", detail=detail)
    extracted = _boxed(answer or "")
    if extracted is None:
        return Grade(outcome="incorrect", detail="no \\boxed{…} in the answer")
    if len(extracted) > _MAX_ANSWER:
        detail = f"the answer is longer than {_MAX_ANSWER} characters"
        return Grade(outcome="incorrect", extracted=extracted[:_MAX_ANSWER], detail=detail)
    try:
        config, entry = _read(meta["config"]), _read(meta["entry"])
        if "metadata" in entry:
            entry = {**entry, "metadata": _read(entry["metadata"])}
        asked = json.dumps([meta["family"], config, entry], default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        detail = f"the problem's meta is not JSON: {error}"
        return Grade(outcome="unverifiable", extracted=extracted, detail=detail)
    return Question(extracted=extracted, arguments=(asked, extracted))


def _read(value: Any) -> dict[str, Any]:
    """An object that a table may hold as JSON text.

    Raises:
        ValueError: it is no object.

    """
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise ValueError("an object was expected")
    return found


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
