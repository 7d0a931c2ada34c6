"""The index of a run's traces: every column but the texts, in a DuckDB file in the user's cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.view.tables import Tables, alone, index_path, touch

if TYPE_CHECKING:
    import duckdb

_BUILDING = "400MB"
_READING = "256MB"
_TITLE = 160  # characters of a prompt
_EXTRACTED = 80  # characters of what a verifier read
NOT_FILTERED, KEPT, NO_VERDICT = "not filtered", "kept", "none"


def settings(memory: str, scratch: Path) -> dict[str, str | bool | int | float | list[str]]:
    """DuckDB's settings: nothing is fetched, and memory has a bound."""
    return {
        "memory_limit": memory,
        "temp_directory": str(scratch),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }


def columns_path(tables: Tables) -> Path:
    """Where the index lies once it is made."""
    return index_path(tables.columns_key, "duckdb")


def build_columns(
    tables: Tables,
    is_stopped: Callable[[], bool],
    begun: Callable[[duckdb.DuckDBPyConnection], None],
) -> Path | None:
    """Make the index, unless it is there, and return where it lies; None where it was stopped.
    Seen is the whole of it or nothing. `begun` is told what makes it, which can be interrupted.

    Raises:
        OSError: the disk.

    """
    path = columns_path(tables)
    with alone(path, is_stopped) as may:
        if not may:
            return None
        if path.exists():
            touch(path)
        else:
            _make(path, tables, begun)
    return path


def _make(path: Path, tables: Tables, begun: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
    import duckdb

    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    scratch = path.with_suffix(".scratch")
    try:
        with duckdb.connect(str(temporary), config=settings(_BUILDING, scratch)) as base:
            begun(base)
            _problems(base, tables)
            _traces(base, tables)
            _queue(base, tables)
            _facets(base)
            base.execute("CHECKPOINT")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_name(f"{temporary.name}.wal").unlink(missing_ok=True)


def open_columns(path: Path) -> duckdb.DuckDBPyConnection:
    """The index, to be read only; it can't reach another file."""
    import duckdb

    scratch = path.with_suffix(f".{os.getpid()}.scratch")
    base = duckdb.connect(str(path), read_only=True, config=settings(_READING, scratch))
    base.execute("SET enable_external_access = false")
    return base


def numbered(base: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path]) -> str:
    """An SQL expression of a table's rows with the place of each in it, as `place`."""
    import pyarrow.parquet as pq

    base.execute(f"CREATE OR REPLACE TEMP TABLE {name}_files (file VARCHAR, first BIGINT)")
    first = 0
    for path in files:
        base.execute(f"INSERT INTO {name}_files VALUES (?, ?)", [str(path), first])
        first += pq.read_metadata(path).num_rows
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    return (
        f"(SELECT r.*, (f.first + r.file_row_number)::INTEGER AS place FROM read_parquet([{listed}]"
        f", file_row_number = true, filename = true) r JOIN {name}_files f ON f.file = r.filename)"
    )


def _problems(base: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    source = numbered(base, "problem", tables.files["problems", "train"])
    base.execute(f"""
        CREATE TABLE all_problems AS
        SELECT place AS no, id,
            coalesce(nullif(json_extract_string(meta, '$.family'), ''), source) AS task,
            left(trim(regexp_replace(left(prompt, 1000), '\\s+', ' ', 'g')), {_TITLE}) AS title
        FROM {source} ORDER BY place""")


def _traces(base: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    source = numbered(base, "trace", tables.files["generate", "traces"])
    stage = "filter" if ("filter", "verdicts") in tables.files else "generate"
    verdicts = drops = "(SELECT NULL AS trace_id WHERE false)"
    outcome, extracted, judged = f"'{NO_VERDICT}'", "NULL", "NULL"
    if (stage, "verdicts") in tables.files:
        verdicts = numbered(base, "verdict", tables.files[stage, "verdicts"])
        outcome, judged = f"coalesce(v.outcome, '{NO_VERDICT}')", "v.place"
        extracted = f"left(v.extracted, {_EXTRACTED})"
    step, reason, dropped = "''", f"'{NOT_FILTERED}'", "NULL"
    if tables.is_filtered:
        drops = numbered(base, "dropped", tables.files["filter", "drops"])
        step, reason, dropped = (
            "coalesce(d.step, '')", f"coalesce(d.reason, '{KEPT}')", "d.place"
        )  # fmt: skip
    base.execute(f"""
        CREATE TEMP TABLE joined AS
        SELECT t.place, t.id, p.no AS problem, p.task, t.sample::INTEGER AS sample, t.finish,
            t.completion_tokens::INTEGER AS tokens, {outcome} AS outcome,
            {extracted}::VARCHAR AS extracted, {step} AS step, {reason} AS reason,
            {judged}::INTEGER AS verdict, {dropped}::INTEGER AS dropped
        FROM {source} t
        LEFT JOIN all_problems p ON p.id = t.problem_id
        LEFT JOIN {verdicts} v ON v.trace_id = t.id
        LEFT JOIN {drops} d ON d.trace_id = t.id""")
    if ("generate", "pass_rates") in tables.files:
        rated = numbered(base, "rate", tables.files["generate", "pass_rates"])
        rates = (
            f"SELECT p.no, r.pass_rate FROM {rated} r JOIN all_problems p ON p.id = r.problem_id"
        )
    else:
        rates = """SELECT problem AS no, avg((outcome = 'correct')::INTEGER) AS pass_rate
            FROM joined WHERE finish IN ('stop', 'length') GROUP BY problem"""
    if stage == "generate" and ("generate", "verdicts") not in tables.files:
        rates = "SELECT no, NULL::DOUBLE AS pass_rate FROM all_problems"  # nothing is judged
    base.execute(f"CREATE TEMP TABLE rates AS {rates}")
    base.execute("""
        CREATE TABLE traces AS SELECT j.*, r.pass_rate FROM joined j
        LEFT JOIN rates r ON r.no = j.problem ORDER BY j.place""")
    base.execute("DROP TABLE joined")
    base.execute("""
        CREATE TABLE problems AS SELECT p.*, r.pass_rate FROM all_problems p
        LEFT JOIN rates r USING (no) ORDER BY no""")
    base.execute("DROP TABLE all_problems")


def _queue(base: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    """The traces that people should decide: those that are disputed, then those of problems whose
    own reference is not judged to be right.
    """
    base.execute("CREATE TEMP TABLE asked (kind INTEGER, line BIGINT, place INTEGER, said VARCHAR)")
    if ("filter", "disputes") in tables.files:
        disputes = numbered(base, "dispute", tables.files["filter", "disputes"])
        base.execute(f"""
            INSERT INTO asked SELECT 0, q.place, t.place, q.opinions
            FROM {disputes} q JOIN traces t ON t.id = q.trace_id""")
    if ("filter", "doubts") in tables.files:
        doubts = numbered(base, "doubt", tables.files["filter", "doubts"])
        base.execute(f"""
            INSERT INTO asked SELECT 1, q.place, t.place,
                json_object('the reference', q.outcome || ': ' || q.detail)
            FROM {doubts} q JOIN problems p ON p.id = q.problem_id
            JOIN traces t ON t.problem = p.no""")
    base.execute("""
        CREATE TABLE queue AS
        SELECT (row_number() OVER (ORDER BY kind, line, place))::INTEGER - 1 AS no,
            kind, place, said
        FROM (SELECT DISTINCT ON (place) * FROM asked ORDER BY kind, line, place) ORDER BY no""")


def _facets(base: duckdb.DuckDBPyConnection) -> None:
    """The values that can be filtered by, with how many traces have each."""
    parts = [
        f"SELECT '{name}' AS name, {name} AS value, count(*) AS traces FROM traces GROUP BY {name}"
        for name in ("outcome", "step", "reason", "task", "finish")
    ]
    base.execute(f"CREATE TABLE facets AS {' UNION ALL '.join(parts)}")
