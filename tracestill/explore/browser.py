"""The traces that a report holds: whole problems' traces, as many as there is room for."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracestill.explore.choice import KEPT, Fates, Problems, first, looping, others
from tracestill.explore.load import Run
from tracestill.explore.marks import pieces, quote_in
from tracestill.explore.rows import columns_of, rows_with
from tracestill.explore.shown_rows import LONGEST, ShownRow, names, shown_rows
from tracestill.records import Problem

if TYPE_CHECKING:
    import pyarrow as pa

_SPARE = 1.5  # what is read, relative to the room for it: before, sizes are only estimated
_LOOPS = 10  # the longest ones, which come before most other traces
_ROW = 400  # bytes of a trace without its texts
_SHARED = (
    "finish", "reason", "step", "outcome", "verdict", "judged", "passed", "dropped", "student",
    "teacher", "error", "disputed",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """The traces that a page holds, in the order of the table, how many there are in all, and the
    same as JSON, which no text in it can end.
    """

    rows: list[ShownRow]
    total: int
    data: str


def browser(run: Run, most_bytes: int, most_traces: int | None = None) -> Browser:
    """Choose traces until `most_bytes` of JSON, or so many traces, are reached. What each of them
    shows is read once, of about as many as there is room for.

    Stages `generate` and `filter` are complete.

    Raises:
        ValueError: a stage's files are damaged.

    """
    table = columns_of(run.path / "generate", "traces", ["id", "problem_id", "completion_tokens"])
    fates = _fates(run, table)
    loops = looping(fates)
    groups = _groups(fates, loops, 0 if most_traces == 0 else round(_SPARE * most_bytes))
    every = sorted({place for group in groups.values() for place in group})
    rows = shown_rows(run, every)
    asked = sorted({row.problem for row in rows.values()})
    prompts = {
        one.id: one for one in rows_with(run.path / "problems", "train", Problem, "id", asked)
    }
    longest = sorted(
        (place for place in loops if place in rows and rows[place].loop),
        key=lambda place: -rows[place].loop,
    )
    order = [*(p for p in first(fates) if p in groups), *longest[:_LOOPS], *groups]
    places = _fitting(order, groups, rows, prompts, most_bytes, most_traces)
    chosen = [rows[place] for place in sorted(places)]
    return Browser(rows=chosen, total=len(table), data=as_json(_packed(run, chosen, prompts)))


def as_json(value: Any) -> str:
    """JSON that may stand in a page's script element: nothing in it can end that."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _fates(run: Run, table: pa.Table) -> Fates:
    """What became of each trace, as numbers."""
    import numpy as np
    import pyarrow.compute as pc

    drops = columns_of(run.path / "filter", "drops", ["trace_id", "reason"])
    disputes = columns_of(run.path / "filter", "disputes", ["trace_id"])
    ids = table.column("id").combine_chunks()
    said = drops.column("reason").combine_chunks().dictionary_encode()
    reasons = [*map(str, said.dictionary.to_pylist()), KEPT]
    reason = np.full(len(table), len(reasons) - 1)
    reason[pc.index_in(drops.column("trace_id"), value_set=ids).to_numpy()] = (
        said.indices.to_numpy()
    )
    disputed = pc.is_in(ids, value_set=disputes.column("trace_id").combine_chunks())
    problems = table.column("problem_id").combine_chunks().dictionary_encode().indices
    return Fates(
        problems=problems.to_numpy().astype(np.int64),
        tokens=table.column("completion_tokens").to_numpy(),
        reason=reason,
        reasons=reasons,
        disputed=np.flatnonzero(disputed.to_numpy(zero_copy_only=False)),
    )


def _groups(fates: Fates, loops: Iterable[int], room: int) -> dict[int, list[int]]:
    """The traces of a problem for each place that should have room, until there is none."""
    problems, groups, seen = Problems(fates), dict[int, list[int]](), set[int]()
    for place in itertools.chain(first(fates), loops, others(fates)):
        if room <= 0:
            break
        if place in seen:
            groups.setdefault(place, [place])
            continue
        groups[place] = problems.of(place)
        fresh = set(groups[place]) - seen
        seen |= fresh
        room -= sum(_ROW + min(2 * LONGEST, 4 * int(fates.tokens[one])) for one in fresh)
    return groups


def _fitting(
    order: Iterable[int],
    groups: Mapping[int, list[int]],
    rows: Mapping[int, ShownRow],
    prompts: Mapping[str, Problem],
    most_bytes: int,
    most_traces: int | None,
) -> set[int]:
    """The places that have room, with the others of their problem where these have it too."""
    sizes = {place: _own_size(row) for place, row in rows.items()}
    left = len(rows) if most_traces is None else most_traces
    chosen, told = set[int](), set[Any]()
    for place in order:
        for some in (set(groups[place]) - chosen, {place} - chosen):
            fresh = {value for one in some for value in _shared(rows[one], prompts)} - told
            size = sum(sizes[one] for one in some) + sum(_size(value) + 1 for value in fresh)
            if some and len(some) <= left and size <= most_bytes:
                most_bytes, left = most_bytes - size, left - len(some)
                chosen |= some
                told |= fresh
                break
    return chosen


def _own_size(row: ShownRow) -> int:
    """The bytes of a trace without what it shares with others; the numbers of that instead."""
    values = zip(names(), row.values(), strict=True)
    own = [value for name, value in values if name not in (*_SHARED, "problem", "quote")]
    return _size(own) + 5 * (len(_SHARED) + 1)


def _shared(row: ShownRow, prompts: Mapping[str, Problem]) -> list[Any]:
    """What other traces may have too, and is there once: of its problem the text first of all."""
    one = prompts[row.problem]
    asked = (one.id, one.task, one.prompt[: 2 * LONGEST], one.reference[:LONGEST])
    return [asked, *(getattr(row, name) for name in _SHARED)]


def _size(value: Any) -> int:
    return len(as_json(value).encode())


def _packed(run: Run, rows: Iterable[ShownRow], prompts: Mapping[str, Problem]) -> dict[str, Any]:
    """What the page's script reads: a list for each trace, in which what many have in common is a
    number in `strings`, and its problem one in `problems`.
    """
    numbers: dict[str, int] = {}
    strings: dict[Any, int] = {}
    quotes: dict[str, str] = {}
    packed = []
    for row in rows:
        own = dict(zip(names(), row.values(), strict=True))
        own["problem"] = numbers.setdefault(row.problem, len(numbers))
        for name in _SHARED:
            own[name] = strings.setdefault(own[name], len(strings))
        if quote := own.pop("quote"):
            quotes.setdefault(row.problem, quote)
        packed.append([*own.values()])
    rates = run.pass_rates().set_index("problem_id").reindex(list(numbers))
    problems = []
    for one, rate in zip(numbers, rates["pass_rate"].tolist(), strict=True):
        found = quote_in(prompts[one].prompt, quotes[one]) if one in quotes else None
        prompt = pieces(prompts[one].prompt, [found] if found else [], LONGEST)
        known = None if math.isnan(rate) else round(rate, 4)
        problems.append([prompts[one].task, prompt, prompts[one].reference[:LONGEST], known])
    return {
        "columns": [name for name in names() if name != "quote"],
        "rows": packed,
        "shared": _SHARED,
        "strings": [*strings],
        "problems": problems,
    }
