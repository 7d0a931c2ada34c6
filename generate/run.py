"""Sample traces: what is in the journal is reused, what is not is asked of the engine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from generate.config import Prices
from generate.engine import Engine, Request, Response
from generate.reasoning import split_reasoning
from tracestill.records import Journal, Problem, Teacher, Trace, digest, from_row, trace_id
from tracestill.records import journal as journals

Progress = Callable[[dict[str, Any]], None]


def teacher_fingerprint(teacher: Teacher, system_prompt: str | None) -> str:
    """Who a trace is of: the teacher and its way of sampling, but not its token budget,
    and not the version of its engine.
    """
    values = asdict(teacher)
    values["sampling"].pop("max_tokens")
    values.pop("engine_version")
    values.pop("model")  # a folder that was moved is the same model: `content` tells
    return digest("teacher", values, system_prompt)


def sample_seed(seed: int, trace: str) -> int:
    """The seed of one sample, from the recipe's and the trace's identity."""
    return int(digest("seed", seed, trace)[:8], 16) % 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A trace that the run asks for."""

    id: str
    problem: Problem
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """Where a response lies in the journal, and whether it need not be asked for again."""

    offset: int
    done: bool


def wanted_traces(problems: Sequence[Problem], samples: int, teacher: str) -> Iterator[Wanted]:
    """The traces of a run. The first samples of all problems come first, so that a run that
    is stopped early has something of every problem.
    """
    for sample in range(samples):
        for problem in problems:
            yield Wanted(id=trace_id(problem.id, teacher, sample), problem=problem, sample=sample)


def _index(path: Path, max_tokens: int) -> dict[str, _Entry]:
    """The journal's responses, the last one of each trace. Failed ones, and ones that were cut
    at a smaller budget than today's, are not done; a failure never hides an earlier answer.
    """
    entries: dict[str, _Entry] = {}
    for row, offset in journals.read(path):
        failed = row["finish"] == "error"
        cut = row["finish"] == "length" and row["max_tokens"] < max_tokens
        if not (failed and row["id"] in entries):
            entries[row["id"]] = _Entry(offset=offset, done=not failed and not cut)
    return entries


def sample(
    problems: Sequence[Problem],
    *,
    samples: int,
    teacher: Teacher,
    system_prompt: str | None,
    seed: int,
    open_engine: Callable[[], Engine],
    journal: Path,
    prices: Prices,
    progress: Progress,
) -> Iterator[Trace]:
    """Traces of the problems, `samples` each, ordered by sample and problem.

    Every response is in `journal` before anything reads it. A journal of an earlier run, ended
    or killed, is gone on with: only what it lacks is asked for, and the engine is opened only
    if something is lacking.

    Raises:
        ValueError: the journal holds a damaged line, or the engine can't be opened.
        OSError: the journal can't be written; what it holds stays good.

    """
    identity = teacher_fingerprint(teacher, system_prompt)
    wanted = list(wanted_traces(problems, samples, identity))
    journals.repair(journal)
    budget = teacher.sampling.max_tokens
    entries = _index(journal, budget)
    missing = [item for item in wanted if not (e := entries.get(item.id)) or not e.done]
    reused = len(wanted) - len(missing)
    progress({"done": reused, "total": len(wanted), "reused": reused, "tokens": 0})
    if missing:
        _ask(missing, teacher, system_prompt, seed, open_engine, journal, prices, progress, reused)
        entries = _index(journal, budget)
    with journal.open("rb") as file:
        for item in wanted:
            file.seek(entries[item.id].offset)
            yield _trace(json.loads(file.readline()), item)


def _ask(
    missing: Sequence[Wanted],
    teacher: Teacher,
    system_prompt: str | None,
    seed: int,
    open_engine: Callable[[], Engine],
    journal: Path,
    prices: Prices,
    progress: Progress,
    done: int,
) -> None:
    """Ask the engine for what is missing, each response into the journal as it comes."""
    by_id = {item.id: item for item in missing}
    total = done + len(missing)
    tokens, cost = 0, 0.0
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    requests = (
        Request(
            id=item.id,
            messages=[*system, {"role": "user", "content": item.problem.prompt}],
            seed=sample_seed(seed, item.id),
        )
        for item in missing
    )
    engine = open_engine()
    begin = time.monotonic()
    try:
        with Journal(journal) as file:
            for response in engine.stream(requests):
                if response is None:
                    continue
                item = by_id[response.id]
                row = _row(response, item, teacher, engine.version, prices)
                file.append(row)
                done += 1
                tokens += response.completion_tokens
                cost += row["cost"]
                progress(
                    {
                        "done": done,
                        "total": total,
                        "tokens": tokens,
                        "tokens_per_second": tokens / max(1e-9, time.monotonic() - begin),
                        "cost": cost,
                    }
                )
    finally:
        engine.close()


def _row(
    response: Response, item: Wanted, teacher: Teacher, engine_version: str, prices: Prices
) -> dict[str, Any]:
    cost = response.cost
    if cost is None:
        cost = prices.prompt * response.prompt_tokens + prices.completion * response.new_tokens
        cost /= 1e6
    return {
        **asdict(response),
        "problem_id": item.problem.id,
        "sample": item.sample,
        "max_tokens": teacher.sampling.max_tokens,
        "cost": cost,
        "teacher": asdict(teacher) | {"engine_version": engine_version},
    }


def _trace(row: dict[str, Any], item: Wanted) -> Trace:
    read = split_reasoning(
        row["raw"],
        row["prefill"],
        raw_reasoning=row.get("raw_reasoning"),
        closed_at=row.get("closed_at"),
    )
    return Trace(
        id=item.id,
        problem_id=item.problem.id,
        sample=item.sample,
        raw=row["raw"],
        raw_reasoning=row.get("raw_reasoning"),
        raw_token_ids=row["token_ids"],
        reasoning=read.reasoning,
        answer=read.answer,
        finish=row["finish"],
        error=row["error"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        teacher=from_row(Teacher, row["teacher"]),
        seconds=row["seconds"],
        cost=row["cost"],
    )
