"""Gather what a run has and write its report."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tracestill.evaluate.forgetting import change_of, warnings
from tracestill.explore import plots
from tracestill.explore.load import Run, load_run
from tracestill.explore.shown import Shown
from tracestill.explore.training import training
from tracestill.records import Match, read_table
from tracestill.records.figures import EvaluationFigures, ModelFigures, SamplingFigures
from tracestill.records.layout import REPORT, STAGES

_MATCHES = 100  # that are shown
_LONGEST = 6_000  # characters of a trace that are shown
_HEIGHT = 2.5  # inches, of plots side by side


def build(folder: Path) -> Path:
    """Write `report.html` for the run in `folder`; what is not there yet is named in it.

    Raises:
        ValueError: `folder` is no run, or a stage's files are damaged.

    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from tracestill.records import write_atomic

    run = load_run(folder)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    environment.filters["thousands"] = lambda value: f"{value:,}"
    page = environment.get_template("page.html.jinja").render(**_content(run))
    path = folder / REPORT
    write_atomic(path, page.encode())
    return path


def _content(run: Run) -> dict[str, Any]:
    """Everything that the page shows; None for what the run does not have yet."""
    done = {stage for stage in STAGES if stage != "report" and run.manifest(stage) is not None}
    results = run.results() if "evaluate" in done else None
    rates = results and plots.draw(partial(plots.rates, results=results), "pass at 1", 1.7)
    tasks = results and plots.draw(partial(plots.by_task, results=results), "by task", 2.7)
    return {
        "name": run.recipe["name"],
        "description": run.recipe["description"],
        "recipe": (run.path / "recipe.yaml").read_text(),
        "provenance": run.provenance,
        "missing": [s for s in STAGES if s != "report" and s not in done],
        "names": plots.NAMES,
        "results": results,
        "reading": _reading(results) if results else None,
        "forgetting": _forgetting(run),
        "rates_plot": rates,
        "tasks_plot": tasks,
        "stages": _stages(run),
        "matches": _matches(run),
        **_traces(run, {"generate", "filter"} <= done),
        "training": training(run) if "finetune" in done else None,
        **_answers(run, "evaluate" in done),
    }


def _reading(results: Mapping[str, ModelFigures]) -> str:
    """The result in a sentence."""
    if not {"student_before", "student_after"} <= results.keys():
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


def _forgetting(run: Run) -> dict[str, Any] | None:
    """What the student forgot: a row for each benchmark, and a line where it is worse."""
    manifest = run.manifest("evaluate")
    if manifest is None or not isinstance(manifest.figures, EvaluationFigures):
        return None
    found = manifest.figures.forgetting
    rows = [(name, one.before, one.after, change_of(one)) for name, one in found.items()]
    return {"rows": rows, "warnings": warnings(found)} if rows else None


def _stages(run: Run) -> list[dict[str, Any]]:
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


def _matches(run: Run) -> list[Match]:
    """Problems that were left out since they hold an item of a benchmark, each beside the item."""
    manifest = run.manifest("problems")
    if manifest is None or "contaminated" not in manifest.tables:
        return []
    return list(
        itertools.islice(read_table(run.path / "problems", "contaminated", Match), _MATCHES)
    )


def _traces(run: Run, there: bool) -> dict[str, Any]:
    empty = dict.fromkeys(
        (
            "funnel", "sampling", "funnel_plot", "lengths_plot", "solved_plot", "samples",
            "noted", "disputes", "doubts", "notes",
        )
    )  # fmt: skip
    if not there:
        return empty
    counts = [(str(reason), int(n)) for reason, n in run.funnel().itertuples(index=False)]
    traces, drops = run.traces(), run.drops()
    dropped = set(drops["trace_id"])
    is_kept = ~traces["id"].isin(dropped)
    tokens = traces["completion_tokens"]
    groups = {"kept": tokens[is_kept].tolist(), "dropped": tokens[~is_kept].tolist()}
    rates = run.pass_rates()["pass_rate"].dropna()
    ids = _choice(
        traces[is_kept]["id"].tolist(),
        {
            str(reason): group["trace_id"].tolist()
            for reason, group in drops.groupby("reason", sort=True)
        },
        run.recipe["report"]["traces"],
    )
    return {
        "funnel": counts,
        "sampling": _sampling(run),
        "funnel_plot": plots.draw(
            partial(plots.funnel, counts=counts), "funnel", 0.7 + 0.3 * (len(counts) + 1)
        ),
        "lengths_plot": plots.draw(
            partial(plots.lengths, groups=groups, colours=plots.COLOURS),
            "lengths of traces",
            _HEIGHT,
            plots.HALF,
        ),
        "solved_plot": plots.draw(
            partial(plots.solved, rates=rates.round(4).tolist()),
            "problems by pass rate",
            _HEIGHT,
            plots.HALF,
        ),
        "samples": [_short(shown) for shown in run.shown(ids)],
        "noted": list(run.noted().itertuples(index=False)),
        "disputes": len(run.disputes()),
        "doubts": len(run.doubts()),
        "notes": filtered.notes if (filtered := run.manifest("filter")) else [],
    }


def _choice(kept: Sequence[str], dropped: dict[str, list[str]], wanted: int) -> list[str]:
    """Trace ids to show: half of them kept, the others in turn from each reason."""
    spread = _spread(kept, max(wanted // 2, wanted - sum(map(len, dropped.values()))))
    rest: list[str] = []
    columns = [_spread(ids, wanted) for ids in dropped.values()]
    for rank in range(wanted):
        rest += [column[rank] for column in columns if rank < len(column)]
    return [*spread, *rest[: wanted - len(spread)]]


def _sampling(run: Run) -> dict[str, Any] | None:
    """How sampling until correct went; None where every problem got as many samples."""
    manifest = run.manifest("generate")
    assert manifest is not None
    if "pass_rates" not in manifest.tables:
        return None
    rates = run.pass_rates()
    known = rates["pass_rate"].dropna()
    return {
        "problems": len(rates),
        "mean": rates["samples"].mean(),
        "most": int(rates["samples"].max()),
        "solved": int((rates["correct"] > 0).sum()),
        "pass_rate": known.mean() if len(known) == len(rates) else None,
        "unfinished": len(rates) - len(known),
    }


def _spread(items: Sequence[str], wanted: int) -> list[str]:
    """At most `wanted` items, evenly from the first to the last."""
    if len(items) <= wanted:
        return list(items)
    return [items[i * len(items) // wanted] for i in range(wanted)]


def _short(shown: Shown) -> dict[str, Any]:
    parts = {
        title: text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n… ({len(text):,} characters)"
        for title, text in shown.parts().items()
    }
    title = " ".join(shown.prompt.split())
    if len(title) > 100:  # prompts of one template differ at their ends
        title = f"{title[:40]} … {title[-55:]}"
    return {"id": shown.trace_id, "reason": shown.reason or "kept", "title": title, "parts": parts}


def _answers(run: Run, there: bool) -> dict[str, Any]:
    if not there:
        return {"answers_plot": None}
    groups, colours = {}, {}
    for model in run.results():
        name = plots.NAMES[model]
        groups[name] = run.frame("evaluate", model)["completion_tokens"].tolist()
        colours[name] = plots.COLOURS[model]
    return {
        "answers_plot": plots.draw(
            partial(plots.lengths, groups=groups, colours=colours),
            "lengths of answers",
            _HEIGHT,
        )
    }
