"""What became of the teacher's traces: the report's part about generating and filtering."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tracestill.explore import plots, svg
from tracestill.explore.browser import browser
from tracestill.explore.choice import KEPT
from tracestill.explore.load import Run
from tracestill.explore.shown_rows import ShownRow

_HEIGHT = 2.5  # inches, of plots side by side
_POINTS = 500  # of a scatter


def became(run: Run, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The funnel, its plots, and the traces that the page holds. `settings` are the recipe's
    section `report`. Stages `generate` and `filter` are complete.
    """
    counts = [(str(reason), int(n)) for reason, n in run.funnel().itertuples(index=False)]
    traces = run.frame("generate", "traces", ["id", "problem_id", "completion_tokens"])
    is_kept = ~traces["id"].isin(run.frame("filter", "drops", ["trace_id"])["trace_id"])
    tokens = traces["completion_tokens"]
    groups = {"kept": tokens[is_kept].tolist(), "dropped": tokens[~is_kept].tolist()}
    rates = run.pass_rates().set_index("problem_id")["pass_rate"]
    held = browser(run, round(settings.get("megabytes", 8) * 1e6), settings["traces"])
    return {
        "funnel": counts,
        "sampling": _sampling(run),
        "funnel_plot": svg.draw(
            partial(plots.funnel, counts=counts),
            "What became of the traces: a bar shows them",
            0.7 + 0.3 * (len(counts) + 1),
        ),
        "lengths_plot": svg.draw(
            partial(plots.lengths, groups=groups, colours=plots.COLOURS, filters=bool(held.rows)),
            "Lengths of kept and dropped traces", _HEIGHT, svg.HALF,
        ),
        "solved_plot": svg.draw(
            partial(plots.solved, rates=rates.dropna().round(4).tolist()),
            "Problems by pass rate: a bar shows them", _HEIGHT, svg.HALF,
        ),
        "scatter_plot": _scatter(held.rows, dict(zip(rates.index, rates, strict=True))),
        "browser": held,
        "noted": list(run.noted().itertuples(index=False)),
        "disputes": len(run.frame("filter", "disputes", ["trace_id"])),
        "doubts": len(run.frame("filter", "doubts", ["problem_id"])),
        "notes": filtered.notes if (filtered := run.manifest("filter")) else [],
    }  # fmt: skip


def _scatter(rows: list[ShownRow], rates: Mapping[str, float]) -> str | None:
    """Tokens against pass rate, of some of the page's traces."""
    known = [n for n, row in enumerate(rows) if rates.get(row.problem) is not None]
    known = [n for n in known if rates[rows[n].problem] == rates[rows[n].problem]]
    shown = known[:: -(-len(known) // _POINTS) or 1]
    points = [(rates[rows[n].problem], rows[n].tokens, rows[n].reason == KEPT) for n in shown]
    if len(points) < 2:
        return None

    return svg.draw(
        partial(plots.tokens_by_rate, points=points, numbers=shown),
        "Length and pass rate: a point opens its trace", 3.2,
    )  # fmt: skip


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
