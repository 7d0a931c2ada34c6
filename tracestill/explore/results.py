"""What distilling did: the report's part about the evaluation, and what all of it took."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tracestill.evaluate.forgetting import change_of, warnings
from tracestill.evaluate.statistics import paired_difference
from tracestill.explore import plots, svg
from tracestill.explore.load import Run
from tracestill.records.figures import EvaluationFigures, ModelFigures, SamplingFigures
from tracestill.records.layout import STAGES
from tracestill.records.rates import Difference

_HEIGHT = 2.5  # inches
_BOTH = {"student_before", "student_after"}


def results_of(run: Run) -> dict[str, Any]:
    """The results with their plots. Stage `evaluate` is complete."""
    results = run.results()
    groups, colours = {}, {}
    for model in results:
        name = plots.NAMES[model]
        frame = run.frame("evaluate", model, ["completion_tokens"])
        groups[name] = frame["completion_tokens"].tolist()
        colours[name] = plots.COLOURS[model]
    forgetting = _forgetting(run)
    changes = _changes(run) if results.keys() >= _BOTH else {}
    return {
        "results": results,
        "reading": _reading(results),
        "changes": {task: _said(change) for task, change in changes.items()},
        "worse": [*_forgotten(forgetting), *_worse(changes)],
        "forgetting": forgetting,
        "rates_plot": svg.draw(partial(plots.rates, results=results), "pass@1", 1.7),
        "tasks_plot": svg.draw(partial(plots.by_task, results=results), "pass@1 by task", 2.7),
        "answers_plot": svg.draw(
            partial(plots.lengths, groups=groups, colours=colours), "Lengths of answers", _HEIGHT
        ),
    }


def _reading(results: Mapping[str, ModelFigures]) -> str:
    """The result in a sentence."""
    if not results.keys() >= _BOTH:
        return ""
    before, after = results["student_before"], results["student_after"]
    apart = after.ci95[0] > before.ci95[1] or before.ci95[0] > after.ci95[1]
    change = after.pass_at_1 - before.pass_at_1
    verb = "gained" if change >= 0 else "lost"
    sentence = (
        f"Distilling {verb} the student {abs(change) * 100:.1f} points on "
        f"{after.problems:,} problems that it had not seen"
    )
    sentence += "; the intervals are apart." if apart else "; the intervals overlap."
    if "teacher" in results and results["teacher"].pass_at_1 > 0:
        share = after.pass_at_1 / results["teacher"].pass_at_1
        sentence += f" It reaches {share:.0%} of the teacher's rate."
    return sentence


def _changes(run: Run) -> dict[str, Difference]:
    """By how much the student is better than before on each task, problem by problem."""
    tasks = run.heldout().set_index("id")["task"]
    before, after = (_rates(run, f"student_{when}") for when in ("before", "after"))
    found = {}
    for task in dict.fromkeys(tasks):
        own = [one for one in tasks.index[tasks == task] if one in before and one in after]
        if own:
            found[str(task)] = paired_difference([(after[one], before[one]) for one in own])
    return found


def _rates(run: Run, model: str) -> dict[str, float]:
    """The share of a model's answers to each problem that are right."""
    answers = run.frame("evaluate", model, ["id", "problem_id"])
    verdicts = run.frame("evaluate", f"{model}_verdicts", ["trace_id", "outcome"])
    judged = answers.merge(verdicts, left_on="id", right_on="trace_id")
    right = (judged["outcome"] == "correct").groupby(judged["problem_id"]).mean()
    return {str(problem): float(rate) for problem, rate in right.items()}


def _said(change: Difference) -> str:
    low, high = (f"{100 * end:+.1f}" for end in change.ci95)
    return f"{100 * change.difference:+.1f} points ({low} to {high})"


def _worse(changes: Mapping[str, Difference]) -> list[tuple[str, bool]]:
    """Sentences on the tasks that fell, and whether that is shown; one that none did."""
    fell = {task: one for task, one in changes.items() if one.difference < 0}
    lines = [
        (
            f"On {task} the student fell by {_said(one).lstrip('-')}, "
            f"on {one.problems:,} problems.",
            True,
        )
        if one.ci95[1] < 0
        else (f"On {task} it changed by {_said(one)}: no difference is shown.", False)
        for task, one in fell.items()
    ]
    if changes and not lines:
        lines = [("No task got worse.", False)]
    return sorted(lines, key=lambda line: not line[1])


def _forgotten(forgetting: Mapping[str, Any] | None) -> list[tuple[str, bool]]:
    return [(f"{line}.", True) for line in forgetting["warnings"]] if forgetting else []


def _forgetting(run: Run) -> dict[str, Any] | None:
    """What the student forgot: a row for each benchmark, and a line where it is worse."""
    manifest = run.manifest("evaluate")
    if manifest is None or not isinstance(manifest.figures, EvaluationFigures):
        return None
    found = manifest.figures.forgetting
    rows = [(name, one.before, one.after, change_of(one)) for name, one in found.items()]
    return {"rows": rows, "warnings": warnings(found)} if rows else None


def stages_of(run: Run) -> list[dict[str, Any]]:
    """Rows, time and cost of each complete stage."""
    rows = []
    for stage in STAGES:
        manifest = run.manifest(stage)
        if manifest is not None and stage != "report":
            figures = manifest.figures
            sampled = figures if isinstance(figures, SamplingFigures) else None
            rows.append(
                {
                    "name": stage,
                    "rows_in": manifest.rows_in,
                    "rows_out": manifest.rows_out,
                    "seconds": manifest.seconds,
                    "tokens": sampled.tokens if sampled else None,
                    "cost": sampled.cost if sampled else None,
                }
            )
    return rows


def cost_said(stages: list[dict[str, Any]]) -> str:
    """What the stages took, in a sentence or two."""
    if not stages:
        return ""
    longest = max(stages, key=lambda stage: float(stage["seconds"]))
    said = (
        f"It took {_time(sum(stage['seconds'] for stage in stages))}, "
        f"{_time(longest['seconds'])} of it for {longest['name']}"
    )
    tokens = sum(stage["tokens"] or 0 for stage in stages)
    cost = sum(stage["cost"] or 0 for stage in stages)
    if tokens:
        said += f". The teacher wrote {tokens:,} tokens"
        said += f", which cost {cost:,.2f}" if cost else ", for which no price is set"
    return f"{said}."


def _time(seconds: float) -> str:
    """A duration for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
