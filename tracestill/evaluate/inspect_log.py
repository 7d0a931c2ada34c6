"""Evaluations as logs of inspect_ai, in its JSON format (version 2), so that `inspect view` shows
every answer. The library is not needed to write them.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracestill.evaluate.evaluated import HELDOUT, Evaluated
from tracestill.evaluate.figures import FAILED
from tracestill.records import Problem, Trace, Verdict, digest, read_table
from tracestill.records.files import sync_folder

_SCORER = "tracestill"
_STOPPED = {"stop": "stop", "length": "max_tokens"}


def write_log(one: Evaluated, folder: Path) -> Path:
    """Write the log of an evaluation to `folder`, and return its path; a log of the same evaluation
    is replaced. A problem's answers are its epochs, `C` is a right one and `I` any other, and
    `accuracy` is pass@1. Requests that failed are samples with an error and without a score.

    Raises:
        ValueError: the evaluation is damaged.
        OSError: it can't be written.

    """
    folder.mkdir(parents=True, exist_ok=True)
    problems = {problem.id: problem for problem in problems_of(one)}
    moment = (one.folder / "manifest.json").stat().st_mtime
    made = datetime.datetime.fromtimestamp(int(moment), datetime.UTC)
    ident = digest("inspect", one.model, one.benchmark, str(one.folder.resolve()), one.table)
    name = f"{made:%Y-%m-%dT%H-%M-%S+00-00}_{one.benchmark.replace(' ', '-')}_{ident}.json"
    path = folder / name
    temporary = folder / f".{name}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            header = json.dumps(_header(one, problems, made.isoformat(), ident), ensure_ascii=False)
            file.write(f'{header[:-1]}, "samples": [')
            for number, sample in enumerate(_samples(one, problems)):
                file.write(f"{',' if number else ''}\n{json.dumps(sample)}")
            file.write("\n]}\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    return path


def problems_of(one: Evaluated) -> Iterator[Problem]:
    """The problems of an evaluation, as they were asked.

    Raises:
        ValueError: they are damaged.

    """
    if one.plan is not None:
        return read_table(one.folder, "problems", Problem)
    if one.benchmark == HELDOUT:
        return read_table(one.folder.parent / "problems", "heldout", Problem)
    return read_table(one.folder, "forgetting", Problem)


def _header(one: Evaluated, problems: dict[str, Problem], made: str, ident: str) -> dict[str, Any]:
    figures = one.figures
    answered = dict.fromkeys(t.problem_id for t in read_table(one.folder, one.table, Trace))
    ids = [problem for problem in problems if problem in answered]
    low, high = figures.ci95
    spec = None if one.plan is None else one.plan.spec
    metrics = {"accuracy": figures.pass_at_1, "low95": low, "high95": high}
    asked: dict[str, Any] = {}
    if spec is not None:
        asked = {
            "temperature": spec.temperature, "top_p": spec.top_p, "max_tokens": spec.max_tokens,
            "top_k": spec.top_k if spec.top_k >= 0 else None,
        }  # fmt: skip
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": ident, "run_id": ident, "task_id": ident, "created": made,
            "task": one.benchmark, "model": one.model,
            "dataset": {"name": one.benchmark, "samples": len(ids), "sample_ids": ids},
            "model_generate_config": asked,
            "config": {"epochs": _most(one)},
            "packages": {"tracestill": importlib.metadata.version("tracestill")},
        },
        "plan": {"name": "plan", "steps": [{"solver": "generate"}], "config": asked},
        "results": {
            "total_samples": figures.samples + figures.failed,
            "completed_samples": figures.samples,
            "scores": [
                {
                    "name": _SCORER, "scorer": _SCORER, "scored_samples": figures.samples,
                    "metrics": {name: {"name": name, "value": v} for name, v in metrics.items()},
                }
            ],
        },
        "stats": {"started_at": made, "completed_at": made},
    }  # fmt: skip


def _most(one: Evaluated) -> int:
    """The most answers to a problem."""
    counts = Counter(trace.problem_id for trace in read_table(one.folder, one.table, Trace))
    return max(counts.values())


def _samples(one: Evaluated, problems: dict[str, Problem]) -> Iterator[dict[str, Any]]:
    verdicts = {v.trace_id: v for v in read_table(one.folder, f"{one.table}_verdicts", Verdict)}
    for trace in read_table(one.folder, one.table, Trace):
        yield _sample(one.model, problems[trace.problem_id], trace, verdicts.get(trace.id))


def _sample(model: str, problem: Problem, trace: Trace, verdict: Verdict | None) -> dict[str, Any]:
    answer = {"role": "assistant", "source": "generate", "model": model, "content": _content(trace)}
    usage = {
        "input_tokens": trace.prompt_tokens, "output_tokens": trace.completion_tokens,
        "total_tokens": trace.prompt_tokens + trace.completion_tokens,
    }  # fmt: skip
    made: dict[str, Any] = {
        "id": problem.id, "epoch": trace.sample + 1, "input": problem.prompt,
        "target": problem.reference, "uuid": trace.id,
        "messages": [{"role": "user", "content": problem.prompt, "source": "input"}],
        "metadata": {"task": problem.task, "kind": problem.kind},
        "total_time": trace.seconds,
    }  # fmt: skip
    if problem.meta.get("choices"):
        made["choices"] = problem.meta["choices"]
    if trace.finish in FAILED:
        why = trace.error or "no answer"
        return {**made, "error": {"message": why, "traceback": "", "traceback_ansi": ""}}
    assert verdict is not None, "every answer has a verdict"
    made["messages"].append(answer)
    made["output"] = {
        "model": model, "usage": usage, "time": trace.seconds,
        "choices": [{"message": answer, "stop_reason": _STOPPED.get(trace.finish, "unknown")}],
    }  # fmt: skip
    made["scores"] = {
        _SCORER: {
            "value": "C" if verdict.outcome == "correct" else "I",
            "answer": verdict.extracted,
            "explanation": f"{verdict.outcome}: {verdict.detail} ({verdict.verifier})",
        }
    }
    return made


def _content(trace: Trace) -> list[dict[str, str]] | str:
    """The answer as parts, reasoning apart; as it came where it holds no readable reasoning."""
    if trace.reasoning is None:
        return trace.answer or trace.raw
    parts = [{"type": "reasoning", "reasoning": trace.reasoning}]
    return [*parts, {"type": "text", "text": trace.answer or ""}]
