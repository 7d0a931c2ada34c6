"""Judge models on the held-out problems: the same engine, sampling and verifier for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from generate.teacher import as_teacher, open_engine, to_restore
from tracestill.evaluate.figures import FAILED, figures_of, marks_of
from tracestill.evaluate.forgetting import AFTER, BEFORE, Judged, forgetting, warnings
from tracestill.evaluate.shared_engine import SharedEngine
from tracestill.evaluate.statistics import by_problem
from tracestill.recipe.evaluate import EvaluateSection
from tracestill.recipe.models import LocalModel, ServedModel
from tracestill.records import (
    OnProgress,
    Problem,
    Sampling,
    Shard,
    StageResult,
    Trace,
    Verdict,
    write_table,
)
from tracestill.records.figures import EvaluationFigures, ModelFigures

if TYPE_CHECKING:
    from generate.engine import Engine
    from tracestill.recipe.rules import Rules

FORGETTING = "forgetting"  # the table of the problems beside the held-out ones


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
    rules: Rules,
    folder: Path,
    progress: OnProgress,
    allowing: str = "evaluate.max_failed",
    beside: Mapping[str, Sequence[Problem]] | None = None,
) -> StageResult:
    """Let each model answer the problems and judge its answers; `rules` say how. Requests
    that failed are counted apart: they say nothing of a model. `allowing` is what a user raises to
    allow for more of them.

    `beside` are problems of what the student is not taught, by benchmark: the student is asked each
    of them once before and once after its training, in the same way, to see what it forgot.

    Raises:
        ValueError: a model can't be loaded, what judges the answers is not installed, or more than
            `settings.max_failed` of its requests failed; what was answered is kept, and the next
            run sends the others again.

    """
    from filter.verify import check_ifeval

    kept = {problem.id: problem for own in (beside or {}).values() for problem in own}
    also = [*kept.values()]
    check_ifeval([*problems, *also])  # before a token is paid for
    sampling = Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_tokens=max_tokens,
        seed=seed,
    )
    tables: dict[str, list[Shard]] = {}
    results: dict[str, ModelFigures] = {}
    again: dict[str, Judged] = {}
    notes: list[str] = []
    each = len(problems) * settings.samples
    rows = sum(each + (len(also) if one.name in (BEFORE, AFTER) else 0) for one in models)
    done = 0
    for subject in models:
        with SharedEngine(partial(_open, subject, sampling)) as engine:
            shown = _from(progress, done, rows)
            traces = _answers(
                subject, problems, settings.samples, sampling, seed, folder, shown, engine
            )
            done += each
            more = []
            if also and subject.name in (BEFORE, AFTER):
                asked = replace(subject, name=f"{subject.name}.{FORGETTING}")
                shown = _from(progress, done, rows)
                more = _answers(asked, also, 1, sampling, seed, folder, shown, engine)
                done += len(also)
        notes += _failures(subject.name, [*traces, *more], settings.max_failed, allowing)
        verdicts = verdicts_of(traces, problems, rules)
        tables |= _tables(folder, subject.name, (traces, verdicts))
        results[subject.name] = figures_of(traces, verdicts, problems)
        if more:
            again[subject.name] = (more, verdicts_of(more, also, rules))
    figures = EvaluationFigures(results=results)
    if beside:
        found = {}
        for name, own in beside.items():
            before, after = (_of(again[subject], own) for subject in (BEFORE, AFTER))
            tables |= _tables(folder, f"{BEFORE}.{name}", before)
            tables |= _tables(folder, f"{AFTER}.{name}", after)
            found[name] = forgetting(before, after, own)
        tables[FORGETTING] = write_table(folder, FORGETTING, Problem, also)
        figures = replace(figures, forgetting=found)
        notes += warnings(found)
    return StageResult(rows_in=rows, rows_out=rows, tables=tables, figures=figures, notes=notes)


def _from(progress: OnProgress, done: int, total: int) -> OnProgress:
    return lambda event: progress(replace(event, done=done + event.done, total=total))


def _tables(folder: Path, name: str, judged: Judged) -> dict[str, list[Shard]]:
    """Write a model's answers and the verdicts on them."""
    traces, verdicts = judged
    return {
        name: write_table(folder, name, Trace, traces),
        f"{name}_verdicts": write_table(folder, f"{name}_verdicts", Verdict, verdicts),
    }


def _of(judged: Judged, problems: Sequence[Problem]) -> Judged:
    """Of answers and verdicts those on these problems."""
    ids = {problem.id for problem in problems}
    traces = [trace for trace in judged[0] if trace.problem_id in ids]
    own = {trace.id for trace in traces}
    return traces, [verdict for verdict in judged[1] if verdict.trace_id in own]


def _open(subject: EvaluatedModel, sampling: Sampling) -> Engine:
    return open_engine(subject.model, sampling, chat_template=subject.chat_template)


def problem_rates(
    subject: EvaluatedModel,
    problems: Sequence[Problem],
    samples: int,
    sampling: Sampling,
    *,
    rules: Rules,
    folder: Path,
    progress: OnProgress,
) -> dict[str, float]:
    """How often a model solves each problem, by its id. Those of which all requests failed have no
    rate. Answers are kept in `folder`.

    Raises:
        ValueError: the model can't be loaded.

    """
    seed = sampling.seed or 0
    with SharedEngine(partial(_open, subject, sampling)) as engine:
        traces = _answers(subject, problems, samples, sampling, seed, folder, progress, engine)
    marks = marks_of(traces, verdicts_of(traces, problems, rules))
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
    engine: SharedEngine,
) -> list[Trace]:
    from generate.job import SamplingJob
    from generate.sampling import sample
    from generate.stopping import fixed

    model = subject.model
    job = SamplingJob(
        teacher=as_teacher(model, sampling),
        open_engine=engine.open,
        redact=to_restore(model),
        rule=fixed(samples),
        journal=folder / f"{subject.name}.journal.jsonl",
        seed=seed,
        system_prompt=subject.system_prompt,
        languages=subject.languages,
    )
    return list(sample(problems, job, progress))


def verdicts_of(
    traces: Sequence[Trace], problems: Sequence[Problem], rules: Rules
) -> list[Verdict]:
    """The verdicts on answers, without those to requests that failed."""
    from filter.verify import Answer, verify_many

    by_id = {problem.id: problem for problem in problems}
    answers = [
        Answer(problem=by_id[trace.problem_id], text=trace.answer, trace_id=trace.id)
        for trace in traces
        if trace.finish not in FAILED
    ]
    return verify_many(answers, rules)
