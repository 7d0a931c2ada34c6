"""Judge models on the held-out problems: the same engine, sampling and verifier for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.evaluate.config import EvaluateSection, Subject
from tracestill.evaluate.passrate import by_problem, pass_at_1
from tracestill.models import as_teacher, open_engine, to_restore
from tracestill.records import Problem, Sampling, Shard, Trace, Verdict, write_table
from tracestill.records.models import LocalModel, ServedModel

if TYPE_CHECKING:
    from filter.sandbox import Sandbox

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A model that is judged, and what it is told before the problem.

    `chat_template` is in place of a local model's own; `languages` says that it tells between the
    problems' languages.
    """

    name: Subject
    model: LocalModel | ServedModel
    system_prompt: str | None = None
    chat_template: str | None = None
    languages: bool = False


def task_of(problem: Problem) -> str:
    """The task that a problem counts for in results by task."""
    return str(problem.meta.get("family") or problem.source)


def evaluate(
    judged: Sequence[Judged],
    problems: Sequence[Problem],
    settings: EvaluateSection,
    *,
    max_tokens: int,
    seed: int,
    sandbox: Sandbox,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Let each model answer the problems and verify its answers; programs run in `sandbox`.

    Returns:
        What a manifest says of the stage: rows, tables, and `details["results"]` with pass@1,
        its interval and the same by task for each model.

    """
    sampling = Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_tokens=max_tokens,
        seed=seed,
    )
    tables: dict[str, list[Shard]] = {}
    results: dict[str, Any] = {}
    each = len(problems) * settings.samples
    for index, subject in enumerate(judged):

        def shown(event: dict[str, Any], before: int = index * each) -> None:
            progress({**event, "done": before + event["done"], "total": each * len(judged)})

        traces = _answers(subject, problems, settings.samples, sampling, seed, folder, shown)
        verdicts = _verdicts(traces, problems, sandbox)
        tables[subject.name] = write_table(folder, subject.name, Trace, traces)
        name = f"{subject.name}_verdicts"
        tables[name] = write_table(folder, name, Verdict, verdicts)
        results[subject.name] = _results(traces, verdicts, problems)
    rows = each * len(judged)
    return {
        "rows_in": rows,
        "rows_out": rows,
        "tables": tables,
        "details": {"results": results},
    }


def _answers(
    subject: Judged,
    problems: Sequence[Problem],
    samples: int,
    sampling: Sampling,
    seed: int,
    folder: Path,
    progress: Progress,
) -> list[Trace]:
    from generate.asking import Asking
    from generate.run import sample
    from generate.stopping import fixed

    model = subject.model
    asking = Asking(
        teacher=as_teacher(model, sampling),
        open_engine=lambda: open_engine(model, sampling, chat_template=subject.chat_template),
        redact=to_restore(model),
        rule=fixed(samples),
        journal=folder / f"{subject.name}.journal.jsonl",
        seed=seed,
        system_prompt=subject.system_prompt,
        languages=subject.languages,
    )
    return list(sample(problems, asking, progress))


def _verdicts(
    traces: Sequence[Trace], problems: Sequence[Problem], sandbox: Sandbox
) -> list[Verdict]:
    from filter.verify import Answer, verify_many

    by_id = {problem.id: problem for problem in problems}
    return verify_many(
        [Answer(problem=by_id[t.problem_id], text=t.answer, trace_id=t.id) for t in traces],
        sandbox,
    )


def _results(
    traces: Sequence[Trace], verdicts: Sequence[Verdict], problems: Sequence[Problem]
) -> dict[str, Any]:
    tasks = {problem.id: task_of(problem) for problem in problems}
    marks = [
        (trace.problem_id, verdict.outcome == "correct")
        for trace, verdict in zip(traces, verdicts, strict=True)
    ]
    result = pass_at_1(by_problem(marks))
    result["by_task"] = {
        task: pass_at_1(by_problem(m for m in marks if tasks[m[0]] == task))
        for task in dict.fromkeys(tasks.values())
    }
    tokens = sum(trace.completion_tokens for trace in traces)
    result["mean_tokens"] = round(tokens / len(traces), 1)
    result["truncated"] = sum(trace.finish == "length" for trace in traces)
    return result
