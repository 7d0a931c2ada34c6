"""The generate stage: sample the teacher, and verify while sampling where the recipe asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generate.config import ImportTeacher
from tracestill.models import as_teacher, open_engine
from tracestill.recipe import Recipe
from tracestill.records import (
    PassRate,
    Problem,
    Sampling,
    Table,
    Trace,
    Verdict,
    open_table,
    write_table,
)
from tracestill.records.models import ServedModel

if TYPE_CHECKING:
    from generate.asking import Asking
    from generate.ledger import Ledger
    from generate.verdicts import Verifier

Progress = Callable[[dict[str, Any]], None]


def asking_of(recipe: Recipe, run: Path) -> Asking:
    """What a recipe asks of its teacher, with the journal in the run's folder.

    Raises:
        ValueError: the recipe imports its traces, or its model's folder does not exist.

    """
    from generate.asking import Asking
    from generate.stopping import Rule

    settings = recipe.generate
    if isinstance(settings, ImportTeacher):
        raise ValueError("engine: import reads traces that are there; it samples nothing")
    sampling = Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_tokens=settings.max_tokens,
        seed=recipe.seed,
    )
    adaptive = settings.samples.until_correct is not None
    return Asking(
        teacher=as_teacher(settings, sampling),
        open_engine=lambda: open_engine(settings, sampling, run / "generate" / "batches"),
        rule=Rule(**settings.samples.model_dump()),
        journal=run / "generate" / "journal.jsonl",
        seed=recipe.seed,
        system_prompt=settings.system_prompt,
        prices=settings.prices,
        budget=settings.budget,
        verifier=_verifier(recipe) if adaptive else None,
        redact=settings.redact if isinstance(settings, ServedModel) else None,
    )


def _verifier(recipe: Recipe) -> Verifier:
    """The filter's verifiers, for the sampler."""
    from filter.sandbox import read_sandbox
    from filter.verify import Answer, verifier_names, verify_many
    from generate.verdicts import Verifier

    sandbox = read_sandbox(recipe.filter.sandbox)

    def judge(pairs: Sequence[tuple[Problem, Trace]]) -> Sequence[Verdict]:
        answers = [Answer(problem=p, text=trace.answer, trace_id=trace.id) for p, trace in pairs]
        return verify_many(answers, sandbox)

    return Verifier(judge=judge, names=verifier_names(sandbox))


def generate(recipe: Recipe, run: Path, progress: Progress) -> dict[str, Any]:
    """Sample the teacher and write the traces; with `until_correct` their verdicts and each
    problem's pass rate as well.

    Returns:
        What a manifest says of the stage.

    Raises:
        ValueError: the budget is reached, or what `generate.run.ask` says.

    """
    from generate.run import ask, read_traces

    folder = run / "generate"
    problems: Table[Problem] = open_table(run / "problems", "train", Problem)
    asking = asking_of(recipe, run)
    ledger = ask(problems, asking, progress)
    totals: Counter[str] = Counter(tokens=0, length=0, error=0)
    cost = 0.0

    def counted() -> Iterator[Trace]:
        nonlocal cost
        for trace in read_traces(problems, asking, ledger):
            totals.update(rows=1, tokens=trace.completion_tokens)
            totals.update([trace.finish])
            cost += trace.cost
            yield trace

    tables = {"traces": write_table(folder, "traces", Trace, counted())}
    details: dict[str, Any] = {
        **{name: totals[name] for name in ("tokens", "length", "error")},
        "cost": cost,
        "problems": len(problems),
        "unfinished": len(problems) - ledger.finished,
    }
    if asking.redact is not None:
        details["masked"] = _masked(problems, asking)
    if asking.verifier is not None:
        rates = list(_pass_rates(problems, asking, ledger))
        tables["verdicts"] = write_table(folder, "verdicts", Verdict, _verdicts(asking, ledger))
        tables["pass_rates"] = write_table(folder, "pass_rates", PassRate, rates)
        known = [rate.pass_rate for rate in rates if rate.pass_rate is not None]
        details |= {
            "correct": ledger.correct,
            "solved": sum(rate.correct > 0 for rate in rates),
            "pass_rate": sum(known) / len(known) if known else None,
        }
    rows = totals["rows"]
    return {"rows_in": rows, "rows_out": rows, "tables": tables, "details": details}


def _masked(problems: Table[Problem], asking: Asking) -> dict[str, int]:
    """How often something of each kind is masked in the problems' prompts."""
    from generate.asking import masking

    mask = masking(asking)
    assert mask is not None
    counts: Counter[str] = Counter()
    for problem in problems:
        counts += mask(problem).counts
    return dict(counts)


def _pass_rates(problems: Table[Problem], asking: Asking, ledger: Ledger) -> Iterator[PassRate]:
    from generate.stopping import pass_rate

    for row, problem in enumerate(problems.column("id")):
        samples, correct, finished = ledger.counts(row)
        rate = pass_rate(asking.rule, samples, correct) if finished else None
        yield PassRate(problem_id=problem, samples=samples, correct=correct, pass_rate=rate)


def _verdicts(asking: Asking, ledger: Ledger) -> Iterator[Verdict]:
    from generate.verdicts import read_verdicts

    assert asking.verifier is not None
    for problem, sample, offset, verdict in read_verdicts(asking.verdicts, asking.verifier.names):
        row = ledger.rows.get(problem)
        if row is not None and ledger.offset(row, sample) == offset:
            yield verdict
