"""Judge models on the held-out problems: the same engine, sampling and verifier for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from generate.teacher import as_teacher, open_engine, to_restore
from tracestill.evaluate.figures import FAILED, figures_of, marks_of
from tracestill.evaluate.statistics import by_problem
from tracestill.recipe.evaluate import EvaluateSection
from tracestill.recipe.models import LocalModel, ServedModel
from tracestill.records import (
    OnProgress,
    Problem,
    Progress,
    Sampling,
    Shard,
    StageResult,
    Trace,
    Verdict,
    write_table,
)
from tracestill.records.figures import EvaluationFigures, ModelFigures

if TYPE_CHECKING:
    from tracestill.recipe.sandbox import Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModel:
    """A model to evaluate, and how it is prompted.

    `chat_template` is in place of a local model's own; `languages` says that it tells between the
    problems' languages.
    """

    name: str
    model: LocalModel | ServedModel
    system_prompt: str | None = None
    chat_template: str | None = None
    languages: bool = False


def evaluate(
    models: Sequence[EvaluatedModel],
    problems: Sequence[Problem],
    settings: EvaluateSection,
    *,
    max_tokens: int,
    seed: int,
    sandbox: Sandbox,
    folder: Path,
    progress: OnProgress,
    allowing: str = "evaluate.max_failed",
) -> StageResult:
    """Let each model answer the problems and judge its answers; programs run in `sandbox`. Requests
    that failed are counted apart: they say nothing of a model. `allowing` is what a user raises to
    allow for more of them.

    Raises:
        ValueError: a model can't be loaded, what judges the answers is not installed, or more than
            `settings.max_failed` of its requests failed; what was answered is kept, and the next
            run sends the others again.

    """
    from filter.verify import check_ifeval

    check_ifeval(problems)  # before a token is paid for
    sampling = Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_tokens=max_tokens,
        seed=seed,
    )
    tables: dict[str, list[Shard]] = {}
    results: dict[str, ModelFigures] = {}
    notes: list[str] = []
    each = len(problems) * settings.samples
    for index, subject in enumerate(models):

        def shown(event: Progress, before: int = index * each) -> None:
            progress(replace(event, done=before + event.done, total=each * len(models)))

        traces = _answers(subject, problems, settings.samples, sampling, seed, folder, shown)
        notes += _failures(subject.name, traces, settings.max_failed, allowing)
        verdicts = verdicts_of(traces, problems, sandbox)
        tables[subject.name] = write_table(folder, subject.name, Trace, traces)
        name = f"{subject.name}_verdicts"
        tables[name] = write_table(folder, name, Verdict, verdicts)
        results[subject.name] = figures_of(traces, verdicts, problems)
    rows = each * len(models)
    return StageResult(
        rows_in=rows,
        rows_out=rows,
        tables=tables,
        figures=EvaluationFigures(results=results),
        notes=notes,
    )


def problem_rates(
    subject: EvaluatedModel,
    problems: Sequence[Problem],
    samples: int,
    sampling: Sampling,
    *,
    sandbox: Sandbox,
    folder: Path,
    progress: OnProgress,
) -> dict[str, float]:
    """How often a model solves each problem, by its id. Those of which all requests failed have no
    rate. Answers are kept in `folder`.

    Raises:
        ValueError: the model can't be loaded.

    """
    seed = sampling.seed or 0
    traces = _answers(subject, problems, samples, sampling, seed, folder, progress)
    marks = marks_of(traces, verdicts_of(traces, problems, sandbox))
    return {problem: sum(own) / len(own) for problem, own in by_problem(marks).items()}


def _failures(name: str, traces: Sequence[Trace], most: float, allowing: str) -> list[str]:
    failed = [trace for trace in traces if trace.finish in FAILED]
    if not failed:
        return []
    why = " ".join((failed[0].error or "no message").split())[:200]
    said = f"{len(failed):,} of {len(traces):,} requests to {name} failed, the first: {why}"
    if len(failed) > most * len(traces):
        raise ValueError(
            f"{said}. What was answered is kept: run again to send the others once more, or raise "
            f"{allowing} (now {most:g}) to do without them"
        )
    return [f"{said}. They are no part of its pass@1"]


def _answers(
    subject: EvaluatedModel,
    problems: Sequence[Problem],
    samples: int,
    sampling: Sampling,
    seed: int,
    folder: Path,
    progress: OnProgress,
) -> list[Trace]:
    from generate.job import SamplingJob
    from generate.sampling import sample
    from generate.stopping import fixed

    model = subject.model
    job = SamplingJob(
        teacher=as_teacher(model, sampling),
        open_engine=lambda: open_engine(model, sampling, chat_template=subject.chat_template),
        redact=to_restore(model),
        rule=fixed(samples),
        journal=folder / f"{subject.name}.journal.jsonl",
        seed=seed,
        system_prompt=subject.system_prompt,
        languages=subject.languages,
    )
    return list(sample(problems, job, progress))


def verdicts_of(
    traces: Sequence[Trace], problems: Sequence[Problem], sandbox: Sandbox
) -> list[Verdict]:
    """The verdicts on answers, without those to requests that failed."""
    from filter.verify import Answer, verify_many

    by_id = {problem.id: problem for problem in problems}
    answers = [
        Answer(problem=by_id[trace.problem_id], text=trace.answer, trace_id=trace.id)
        for trace in traces
        if trace.finish not in FAILED
    ]
    return verify_many(answers, sandbox)
