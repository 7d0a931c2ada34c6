"""A page of a run's traces, of those that fit what a person filters and searches by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from tracestill.view.search import Hits

if TYPE_CHECKING:
    import duckdb

Sort = Literal["place", "shortest", "longest", "problem", "hardest", "easiest"]
SORTS: tuple[Sort, ...] = get_args(Sort)
_ORDER: dict[Sort, str] = {
    "place": "place",
    "shortest": "tokens, place",
    "longest": "tokens DESC, place",
    "problem": "problem, sample, place",
    "hardest": "pass_rate NULLS LAST, problem, sample, place",
    "easiest": "pass_rate DESC NULLS LAST, problem, sample, place",
}
_COLUMNS = (
    "place", "id", "problem", "sample", "task", "finish", "tokens", "outcome", "extracted", "step",
    "reason", "pass_rate",
)  # fmt: skip
_EQUAL = ("outcome", "step", "reason", "task", "finish")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person wants to see; None and empty texts leave a filter out."""

    outcome: str = ""
    step: str = ""
    reason: str = ""
    task: str = ""
    finish: str = ""
    least: int | None = None
    most: int | None = None
    """Tokens of the completion, both included."""
    sort: Sort = "place"
    offset: int = 0
    limit: int = 50

    @property
    def is_plain(self) -> bool:
        """Whether it asks for the table as it lies there."""
        return self.sort == "place" and not self._conditions()[0]

    def _conditions(self) -> tuple[list[str], list[Any]]:
        said = [(f"{name} = ?", getattr(self, name)) for name in _EQUAL if getattr(self, name)]
        said += [("tokens >= ?", self.least)] if self.least is not None else []
        said += [("tokens <= ?", self.most)] if self.most is not None else []
        return [text for text, _ in said], [value for _, value in said]

    def where(self, hits: Hits | None) -> tuple[str, list[Any]]:
        """The condition in SQL and its values; hits are the tables `found` and `found_problems`."""
        texts, values = self._conditions()
        if hits is not None:
            texts.append(
                "(place IN (SELECT row FROM found) OR problem IN (SELECT row FROM found_problems))"
                if len(hits.problems)
                else "place IN (SELECT row FROM found)"
            )
        return (f"WHERE {' AND '.join(texts)}" if texts else ""), values


def page(base: duckdb.DuckDBPyConnection, asked: Asked, hits: Hits | None) -> dict[str, Any]:
    """The rows of a page, and how many there are in all. `base` is a cursor of the index."""
    import pyarrow as pa

    if hits is not None:
        base.register("found", pa.table({"row": pa.array(hits.traces)}))
        base.register("found_problems", pa.table({"row": pa.array(hits.problems)}))
    where, values = asked.where(hits)
    counted = base.execute(f"SELECT count(*) FROM traces {where}", values).fetchone()
    base.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM traces {where} ORDER BY {_ORDER[asked.sort]} "
        "LIMIT ? OFFSET ?",
        [*values, asked.limit, asked.offset],
    )
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in base.fetchall()]
    titles = problems_of(base, [row["problem"] for row in rows])
    for row in rows:
        row |= titles.get(row.pop("problem"), {"problem": "", "title": ""})
    return {"rows": rows, "total": counted[0] if counted else 0}


def problems_of(base: duckdb.DuckDBPyConnection, numbers: list[int]) -> dict[int, dict[str, Any]]:
    """The id and the beginning of the prompt of problems, by their number."""
    wanted = sorted({number for number in numbers if number is not None})
    base.execute(f"SELECT no, id, title FROM problems WHERE no IN ({_marks(wanted)})", wanted)
    return {no: {"problem": own, "title": title} for no, own, title in base.fetchall()}


def _marks(values: list[int]) -> str:
    return ", ".join("?" * len(values)) or "NULL"


def facets(base: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[str, int]]]:
    """The values of each column that can be filtered by, the most frequent first."""
    base.execute("SELECT name, value, traces FROM facets ORDER BY traces DESC, value")
    found: dict[str, list[tuple[str, int]]] = {name: [] for name in _EQUAL}
    for name, value, count in base.fetchall():
        if value:
            found[name].append((value, count))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a trace and what is said of it lie: rows of the tables `traces`, `verdicts`, `drops`
    and `train`.
    """

    trace: int
    verdict: int | None
    drop: int | None
    problem: int | None
    asked: str
    """What disagrees about it, as JSON; empty where nothing does."""


def place_of(base: duckdb.DuckDBPyConnection, trace: str) -> Place | None:
    """Where a trace lies, by its id; None where there is none such."""
    base.execute(
        "SELECT place, verdict, dropped, problem, coalesce((SELECT said FROM queue q "
        "WHERE q.place = t.place), '') FROM traces t WHERE id = ?",
        [trace],
    )
    row = base.fetchone()
    if row is None:
        return None
    return Place(trace=row[0], verdict=row[1], drop=row[2], problem=row[3], asked=row[4])


def traces_of(base: duckdb.DuckDBPyConnection, problem: str) -> list[dict[str, Any]]:
    """The traces of a problem, by its id, in the order of sampling."""
    names = ("id", "sample", "finish", "tokens", "outcome", "extracted", "step", "reason")
    base.execute(
        f"SELECT {', '.join(f't.{name}' for name in names)} FROM traces t "
        "WHERE t.problem = (SELECT no FROM problems WHERE id = ?) ORDER BY sample, place",
        [problem],
    )
    return [dict(zip(names, row, strict=True)) for row in base.fetchall()]


def queue_page(
    base: duckdb.DuckDBPyConnection, offset: int, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """A part of the traces that people should decide, and how many there are."""
    counted = base.execute("SELECT count(*) FROM queue").fetchone()
    names = (
        "no",
        "kind",
        "said",
        "id",
        "sample",
        "tokens",
        "outcome",
        "extracted",
        "reason",
        "problem",
    )
    base.execute(
        "SELECT q.no, q.kind, q.said, t.id, t.sample, t.tokens, t.outcome, t.extracted, t.reason, "
        "t.problem FROM queue q JOIN traces t ON t.place = q.place "
        "WHERE q.no >= ? AND q.no < ? ORDER BY q.no",
        [offset, offset + limit],
    )
    rows = [dict(zip(names, row, strict=True)) for row in base.fetchall()]
    titles = problems_of(base, [row["problem"] for row in rows])
    for row in rows:
        row |= titles.get(row.pop("problem"), {"problem": "", "title": ""})
    return rows, counted[0] if counted else 0
