"""Judge answers to reasoning-gym's problems by the scorers that come with its generators."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from filter.extract import last_boxed
from filter.verify.judgement import Judgement, Verifier
from filter.verify.worker import Worker, WorkerError
from tracestill.records import Problem

Scorer = Callable[[str, dict[str, Any], dict[str, Any], str], float]

# Their scorers compare the parsed answer with tuples, which JSON turned into lists.
_COMPARE_TUPLES = frozenset({"arc_agi", "rearc"})


def reasoning_gym(seconds: float = 5.0) -> Verifier:
    r"""A verifier that scores what stands in the answer's last `\boxed{…}`.

    `Problem.meta` holds `family`, `config` and `entry` (`question`, `answer`, `metadata`). Only
    a score of 1 is correct. The scorer runs in a process of its own for at most `seconds`,
    since some of them evaluate the answer; one that raises or takes longer gives `error`.
    """
    worker = Worker("filter.verify.reasoning_gym:open_scorer", seconds=seconds)

    def judge(problem: Problem, answer: str | None) -> Judgement:
        extracted = last_boxed(answer or "")
        if extracted is None:
            return Judgement(outcome="incorrect", detail="no \\boxed{…} in the answer")
        meta = problem.meta
        try:
            score = worker.call(meta["family"], meta["config"], meta["entry"], extracted)
        except WorkerError as error:
            return Judgement(outcome="error", extracted=extracted, detail=str(error))
        return Judgement(
            outcome="correct" if score == 1.0 else "incorrect",
            extracted=extracted,
            detail=f"score {score:g}",
        )

    return judge


def open_scorer() -> Scorer:
    """The scorer of all families: (family, config, entry, extracted answer) to 0.0 to 1.0."""
    import reasoning_gym

    datasets: dict[str, Any] = {}

    def score(family: str, config: dict[str, Any], entry: dict[str, Any], extracted: str) -> float:
        key = json.dumps([family, config], sort_keys=True)
        if key not in datasets:
            datasets[key] = reasoning_gym.create_dataset(family, **{**config, "seed": 0, "size": 1})
        if family in _COMPARE_TUPLES:
            entry = _tuples(entry)
        return float(datasets[key].score_answer(extracted, entry))

    return score


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
