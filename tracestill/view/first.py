"""The first page of a run, straight from its Parquet files, before there is an index."""

from __future__ import annotations

from typing import Any

from tracestill.explore.rows import rows_at
from tracestill.records.texts import shortened
from tracestill.view.columns import KEPT, NO_VERDICT, NOT_FILTERED, settings
from tracestill.view.tables import Tables, index_path

_READ = ["id", "problem_id", "sample", "finish", "completion_tokens"]
_MEMORY = "128MB"
_TITLE = 160


def first_page(tables: Tables, offset: int, limit: int) -> dict[str, Any]:
    """As `query.page` without a filter; tasks and pass rates are not known yet.

    Raises:
        ValueError: a file is damaged.

    """
    import duckdb
    import numpy as np

    places = np.arange(offset, min(offset + limit, tables.traces))
    found = dict(rows_at(tables.run / "generate", "traces", places, _READ))
    ids = [row["id"] for row in found.values()]
    with duckdb.connect(config=settings(_MEMORY, index_path("first", "scratch"))) as base:

        def said(
            stage: str, table: str, key: str, wanted: list[str], *columns: str
        ) -> dict[str, Any]:
            """Columns of those rows of a table that have one of these keys."""
            paths = tables.paths(stage, table)
            if not paths or not wanted:
                return {}
            marks = ", ".join("?" * len(wanted))
            rows = base.execute(
                f"SELECT {key}, {', '.join(columns)} FROM read_parquet(?) WHERE {key} IN ({marks})",
                [paths, *wanted],
            ).fetchall()
            return {row[0]: row[1:] for row in rows}

        judged = "filter" if tables.is_filtered else "generate"
        verdicts = said(judged, "verdicts", "trace_id", ids, "outcome", "left(extracted, 80)")
        drops = said("filter", "drops", "trace_id", ids, "step", "reason")
        asked = sorted({row["problem_id"] for row in found.values()})
        prompts = said("problems", "train", "id", asked, "left(prompt, 1000)")
    otherwise = ("", KEPT if tables.is_filtered else NOT_FILTERED)
    rows = []
    for place, row in found.items():
        outcome, extracted = verdicts.get(row["id"], (NO_VERDICT, None))
        step, reason = drops.get(row["id"], otherwise)
        title = shortened(prompts.get(row["problem_id"], ("",))[0], _TITLE)
        rows.append({
            "place": place, "id": row["id"], "problem": row["problem_id"], "title": title,
            "sample": row["sample"], "task": None, "finish": row["finish"],
            "tokens": row["completion_tokens"], "outcome": outcome, "extracted": extracted,
            "step": step, "reason": reason, "pass_rate": None,
        })  # fmt: skip
    return {"rows": rows, "total": tables.traces}
