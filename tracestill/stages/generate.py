"""The teacher's traces: sampled, and verified while sampling where the recipe asks; or imported."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generate.teacher import as_teacher, open_engine, section_content
from tracestill.recipe.generate import NEUTRAL, ImportTeacher
from tracestill.recipe.models import ServedModel
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    OnProgress,
    PassRate,
    Problem,
    Sampling,
    StageResult,
    Table,
    Trace,
    Verdict,
    open_table,
    read_table,
    write_table,
)
from tracestill.records.figures import SamplingFigures
from tracestill.stages.problems import reported

if TYPE_CHECKING:
    from generate.job import SamplingJob
    from generate.ledger import Ledger


def settings(recipe: Recipe) -> Any:
    """The section `generate` without its neutral keys, and the teacher by its content."""
    from generate.reasoning import VERSION

    teacher = recipe.generate
    said = teacher.model_dump(exclude={"model", "path", *NEUTRAL})
    seed = None if isinstance(teacher, ImportTeacher) else recipe.seed
    return [said, section_content(teacher), seed, VERSION, _verifying(recipe)]


def _verifying(recipe: Recipe) -> Any:
    """What decides when a problem has enough samples, beside the section itself."""
    from filter.verify import verifier_names

    teacher = recipe.generate
    if isinstance(teacher, ImportTeacher) or teacher.samples.until_correct is None:
        return None
    made = [verifier_names(recipe.filter.rules), recipe.filter.max_tokens]
    return made if recipe.finetune.needs_reasoning else [*made, "without reasoning too"]


def limits(recipe: Recipe) -> Any:
    """The budget, which matters where it ends the sampling."""
    return (
        None if isinstance(recipe.generate, ImportTeacher) else recipe.generate.budget.model_dump()
    )


def job_of(recipe: Recipe, run: Path) -> SamplingJob:
    """How a recipe samples its teacher, with the journal in the run's folder.

    Raises:
        ValueError: the recipe imports its traces, or its model's folder does not exist.

    """
    from filter.verify import by_rules
    from generate.job import SamplingJob
    from generate.stopping import Rule

    teacher = recipe.generate
    if isinstance(teacher, ImportTeacher):
        raise ValueError("engine: import reads traces that are there; it samples nothing")
    sampling = Sampling(
        temperature=teacher.temperature,
        top_p=teacher.top_p,
        top_k=teacher.top_k,
        max_tokens=teacher.max_tokens,
        seed=recipe.seed,
    )
    adaptive = teacher.samples.until_correct is not None
    return SamplingJob(
        teacher=as_teacher(teacher, sampling),
        open_engine=lambda: open_engine(teacher, sampling, run / "generate" / "batches"),
        rule=Rule(**teacher.samples.model_dump()),
        journal=run / "generate" / "journal.jsonl",
        seed=recipe.seed,
        system_prompt=teacher.system_prompt,
        prices=teacher.prices,
        budget=teacher.budget,
        verifier=by_rules(recipe.filter.rules) if adaptive else None,
        max_kept_tokens=recipe.filter.max_tokens,
        redact=teacher.redact if isinstance(teacher, ServedModel) else None,
        canary=teacher.canary,
        solutions=teacher.reasoning == "solution",
        needs_reasoning=recipe.finetune.needs_reasoning,
    )


def pilot(recipe: Recipe, run: Path, count: int, progress: OnProgress) -> None:
    """Sample up to `count` problems of a run, drawn at random, into the run's own journal: the run
    reuses what they cost.

    Raises:
        ValueError: see `generate.sampling.sample_missing`.

    """
    from generate.sampling import sample_missing

    problems: Table[Problem] = open_table(run / "problems", "train", Problem)
    rows = random.Random(recipe.seed).sample(range(len(problems)), min(count, len(problems)))
    sample_missing([problems[row] for row in sorted(rows)], job_of(recipe, run), progress)


def make(recipe: Recipe, run: Path, progress: OnProgress) -> StageResult:
    """Sample the teacher, or import its traces, and write them; with `until_correct` their verdicts
    and each problem's pass rate as well.

    Raises:
        ValueError: the budget is reached, the data to import can't be read, or what
            `generate.sampling.sample_missing` says.

    """
    if isinstance(recipe.generate, ImportTeacher):
        return _import(recipe.generate, recipe, run, progress)
    from generate.passrates import mean_pass_rate, pass_rates
    from generate.sampling import read_traces, sample_missing

    folder = run / "generate"
    problems: Table[Problem] = open_table(run / "problems", "train", Problem)
    job = job_of(recipe, run)
    ledger = sample_missing(problems, job, progress)
    count = _Count()
    traces = count.passing(read_traces(problems, job, ledger))
    tables = {"traces": write_table(folder, "traces", Trace, traces)}
    rates: list[PassRate] | None = None
    if job.verifier is not None:
        rates = list(pass_rates(ledger))
        tables["verdicts"] = write_table(folder, "verdicts", Verdict, _verdicts(job, ledger))
        tables["pass_rates"] = write_table(folder, "pass_rates", PassRate, rates)
    masked = _masked(problems, job)
    return StageResult(
        rows_in=count.rows,
        rows_out=count.rows,
        tables=tables,
        figures=SamplingFigures(
            tokens=count.tokens,
            length=count.finishes["length"],
            error=count.finishes["error"],
            cost=count.cost,
            problems=len(problems),
            unfinished=len(problems) - ledger.finished,
            masked=masked,
            correct=None if rates is None else ledger.correct,
            solved=None if rates is None else sum(rate.correct > 0 for rate in rates),
            pass_rate=None if rates is None else mean_pass_rate(ledger),
        ),
        notes=[*count.notes(), *_masked_note(masked)],
        cut_short=ledger.cut_short,
    )


class _Count:
    """Counts traces while they pass on their way into the table."""

    def __init__(self) -> None:
        self.rows = self.tokens = self.problems = self.uncounted = 0
        self.cost = 0.0
        self.finishes: Counter[str] = Counter()
        self._first_error = ""

    def passing(self, traces: Iterable[Trace]) -> Iterator[Trace]:
        for trace in traces:
            self.rows += 1
            self.problems += trace.sample == 0
            self.tokens += trace.completion_tokens
            self.uncounted += trace.completion_tokens == 0
            self.cost += trace.cost
            self.finishes[trace.finish] += 1
            if trace.finish in ("error", "skipped") and not self._first_error:
                self._first_error = " ".join((trace.error or "no message").split())[:200]
            yield trace

    def notes(self) -> list[str]:
        """What did not come back, where it happened."""
        said = []
        if failed := self.finishes["error"]:
            said.append(
                f"{failed:,} of {self.rows:,} requests failed, the first: {self._first_error}. "
                "`--from generate` sends them again; what has been answered is kept"
            )
        if skipped := self.finishes["skipped"]:
            said.append(
                f"{skipped:,} of {self.rows:,} prompts were not sent, since they leave no room for "
                "an answer: raise generate.max_model_len"
            )
        return said


def _masked(problems: Table[Problem], job: SamplingJob) -> dict[str, int]:
    """How often something of each kind is masked in the problems' prompts."""
    from generate.job import prompt_mask

    mask = prompt_mask(job)
    counts: Counter[str] = Counter()
    if mask is not None:
        for problem in problems:
            counts += mask(problem).counts
    return dict(counts)


def _masked_note(masked: dict[str, int]) -> list[str]:
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(masked.items()))
    return [f"masked in what was sent: {counts}"] if masked else []


def _verdicts(job: SamplingJob, ledger: Ledger) -> Iterator[Verdict]:
    from generate.verdicts import read_verdicts

    assert job.verifier is not None
    for judged in read_verdicts(job.verdicts, job.verifier.names, job.read_by):
        row = ledger.rows.get(judged.problem_id)
        if row is not None and ledger.offset(row, judged.sample) == judged.offset:
            yield judged.verdict


def _import(section: ImportTeacher, recipe: Recipe, run: Path, progress: OnProgress) -> StageResult:
    """Write the data set's traces of the problems that were taken."""
    from generate.importing import import_traces, walk

    heldout = list(read_table(run / "problems", "heldout", Problem))
    dropped: Counter[str] = Counter()
    count = _Count()
    rows = reported(walk(section, heldout, recipe.problems.instruction), progress)
    traces = count.passing(import_traces(section, rows, dropped))
    tables = {"traces": write_table(run / "generate", "traces", Trace, traces)}
    return StageResult(
        rows_in=count.rows + dropped.total(),
        rows_out=count.rows,
        dropped=dict(dropped),
        tables=tables,
        figures=SamplingFigures(
            tokens=count.tokens,
            length=count.finishes["length"],
            error=count.finishes["error"],
            cost=count.cost,
            problems=count.problems,
            uncounted=count.uncounted,
        ),
    )
