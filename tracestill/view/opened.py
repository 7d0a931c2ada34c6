"""A run that is being looked at: its tables, and their indexes, built in the background."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracestill.records.decisions import (
    PERSON,
    Decided,
    Decision,
    add_decision,
    read_decisions,
)
from tracestill.records.layout import recipe_path
from tracestill.view import query
from tracestill.view.columns import build_columns, columns_path, open_columns
from tracestill.view.first import first_page
from tracestill.view.live import Live, name_of
from tracestill.view.search import Hits, Words
from tracestill.view.shown import shown_trace
from tracestill.view.tables import Tables, read_tables, state_of

if TYPE_CHECKING:
    import duckdb

_SEARCHES = 8  # whose hits are kept, for the next page or another filter
_ENDS = 10.0  # seconds in which what is built must have stopped
_AGAIN = 0.05  # seconds until it is interrupted again: it may have been between two queries
_FIRST = 3.0  # seconds that building waits for a first page
_LOG = logging.getLogger("tracestill.view")


@dataclass(slots=True, kw_only=True)
class _Indexed:
    """The indexes of tables as they are now; `base` is there once it is built."""

    tables: Tables
    words: Words
    base: duckdb.DuckDBPyConnection | None = None
    failed: str = ""
    is_stale: bool = False
    making: duckdb.DuckDBPyConnection | None = None
    """What makes the index of the columns, from when it began on."""
    thread: threading.Thread | None = None
    shown: threading.Event = field(default_factory=threading.Event)
    """Set once a page was shown: until then building would take the time from it."""

    def build(self) -> None:
        """Build the indexes in the background."""
        self.thread = threading.Thread(target=_build, args=(self,), daemon=True)
        self.thread.start()

    def begun(self, making: duckdb.DuckDBPyConnection) -> None:
        """Be told what makes the index of the columns."""
        self.making = making

    def stop(self, seconds: float) -> None:
        """Let nothing more be built, and wait so long for that at most. A process that ends while
        DuckDB works in a thread is aborted.
        """
        import duckdb

        self.is_stale = True
        self.shown.set()
        deadline = time.monotonic() + seconds
        while self.thread is not None and self.thread.is_alive():
            if self.making is not None:
                with contextlib.suppress(duckdb.ConnectionException):  # it is closed by now
                    self.making.interrupt()
            if time.monotonic() >= deadline:
                break
            self.thread.join(_AGAIN)


class OpenRun:
    """A run that is being looked at, also while it goes on or is made again."""

    def __init__(self, run: Path) -> None:
        """Open a run.

        Raises:
            ValueError: the folder is no run.

        """
        recipe_path(run)  # or it is no run
        self.path = run
        self.name = name_of(run)
        self.live = Live(run)
        self._lock = threading.Lock()
        self._state: tuple[tuple[int, int], ...] = ()
        self._now: _Indexed | None = None
        self._hits = functools.lru_cache(_SEARCHES)(self._find)

    def indexed(self) -> _Indexed | None:
        """The tables as they are now; None where the traces are not all there. What is not indexed
        yet is from now on.

        Raises:
            ValueError: a manifest is not readable.

        """
        with self._lock:
            state = state_of(self.path)
            if state != self._state:
                tables = read_tables(self.path)
                if self._now is not None:
                    self._now.stop(0)
                self._now = None
                if tables is not None:
                    self._now = _Indexed(tables=tables, words=Words(tables))
                    self._now.build()
                self._state = state
                self._hits.cache_clear()
            return self._now

    def close(self) -> None:
        """Stop what is being built."""
        with self._lock:
            if self._now is not None:
                self._now.stop(_ENDS)

    def page(self, asked: query.Asked, words: str) -> dict[str, Any]:
        """The traces that fit, with how much of them is indexed so far.

        Raises:
            ValueError: a file is damaged.

        """
        now = self.indexed()
        if now is None:
            return {"rows": [], "total": 0, "state": "no traces"}
        told: dict[str, Any] = {
            "state": "ready", "traces": now.tables.traces, "filtered": now.tables.is_filtered,
            "failed": now.failed,
        }  # fmt: skip
        if now.base is None:
            told["state"] = "indexing"
            if not asked.is_plain or words:
                now.shown.set()
                return {"rows": [], "total": 0, **told}
            try:
                return first_page(now.tables, asked.offset, asked.limit) | told
            finally:
                now.shown.set()
        hits = None
        if words.strip():
            hits = self._hits(now.tables.text_key, words, now.words.searched())
            told["searched"] = hits.searched
        with _cursor(now.base) as base:
            return query.page(base, asked, hits) | told

    def _find(self, key: str, words: str, searched: int) -> Hits:
        """What a search finds; the index and how far it is are what the cache goes by."""
        assert self._now is not None
        return self._now.words.find(words)

    def facets(self) -> dict[str, Any]:
        """What can be filtered by."""
        with self._base() as base:
            return {} if base is None else query.facets(base)

    def trace(self, trace: str, *, whole: bool = False) -> dict[str, Any] | None:
        """A trace with what was decided of it; None where there is none such.

        Raises:
            ValueError: a file is damaged.

        """
        with self._base() as base:
            place = None if base is None else query.place_of(base, trace)
        if place is None:
            return None
        shown = shown_trace(self.path, place, whole=whole)
        return shown | {"decision": _said(read_decisions(self.path).get(trace), shown["verdict"])}

    def traces_of(self, problem: str) -> list[dict[str, Any]]:
        """The traces of a problem, by its id."""
        with self._base() as base:
            return [] if base is None else query.traces_of(base, problem)

    def queue(self, offset: int, limit: int) -> dict[str, Any]:
        """A part of the traces that people should decide, with what they decided of them."""
        decisions = read_decisions(self.path)
        with self._base() as base:
            rows, total = ([], 0) if base is None else query.queue_page(base, offset, limit)
            state = "indexing" if base is None and self._now is not None else "ready"
        for row in rows:
            decision = decisions.get(row["id"])
            row |= {
                "opinions": json.loads(row.pop("said")),
                "kind": "doubt" if row["kind"] else "dispute",
                "decision": decision.verdict if decision else "",
            }
        decided = sum(one.verdict != "undecided" for one in decisions.values())
        return {"rows": rows, "total": total, "decided": decided, "state": state}

    def decide(self, trace: str, verdict: Decided, note: str) -> bool:
        """Write down what a person says of a trace; false where there is no such trace.

        Raises:
            OSError: it can't be written.

        """
        with self._base() as base:
            if base is None or query.place_of(base, trace) is None:
                return False
        said = Decision(
            trace_id=trace,
            verdict=verdict,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            note=note,
        )
        with self._lock:
            add_decision(self.path, said)
        return True

    @contextlib.contextmanager
    def _base(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """The index of the columns, None where it is not there yet."""
        now = self.indexed()
        if now is None or now.base is None:
            if now is not None:
                now.shown.set()
            yield None
            return
        with _cursor(now.base) as base:
            yield base


def _cursor(base: duckdb.DuckDBPyConnection) -> contextlib.closing[duckdb.DuckDBPyConnection]:
    """A connection of one request's own."""
    return contextlib.closing(base.cursor())


def _build(now: _Indexed) -> None:
    """Build the indexes. What goes wrong stands on the page, and the rest of it works."""
    try:
        if not columns_path(now.tables).exists():
            now.shown.wait(_FIRST)
        path = build_columns(now.tables, lambda: now.is_stale, now.begun)
        if path is None:
            return
        base = open_columns(path)
        _warm(base)
        now.base = base
        now.words.build(lambda: now.is_stale)
    except Exception as error:
        if not now.is_stale:  # else its files were replaced while it read them
            _LOG.exception("the index of %s can't be built", now.tables.run)
            now.failed = " ".join(str(error).split()) or type(error).__name__


def _warm(base: duckdb.DuckDBPyConnection) -> None:
    """Search once for nothing: the libraries take a quarter of a second for the first time."""
    import numpy as np

    none = np.zeros(0, np.int32)
    with _cursor(base) as cursor:
        query.page(cursor, query.Asked(), Hits(traces=none, problems=none, searched=0))


def _said(decision: Decision | None, verdict: dict[str, Any] | None) -> dict[str, Any] | None:
    """A decision, and whether the filter has taken it already."""
    if decision is None or decision.verdict == "undecided":
        return None
    taken = verdict is not None and verdict["verifier"] == PERSON
    return {
        "verdict": decision.verdict, "at": decision.at, "note": decision.note,
        "taken": taken and verdict is not None and verdict["outcome"] == decision.verdict,
    }  # fmt: skip
