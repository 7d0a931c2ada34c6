"""Rows of a user's file as answers to judge, and their verdicts."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracestill.recipe.rules import Rules, kind_mistake
from tracestill.records import Problem, Verdict

if typing.TYPE_CHECKING:
    from filter.verify import Answer

COLUMNS = ("id", "kind", "reference", "completion", "prompt", "meta", "choices")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How a file's rows become tasks."""

    columns: Mapping[str, str]
    kind: str | None
    needed: frozenset[str]
    rules: Rules

    def named(self, name: str) -> str:
        """The file's own name of one of `COLUMNS`."""
        return self.columns.get(name, name)

    def check(self, source: Path, present: Iterable[str]) -> None:
        """Raise a ValueError where the file lacks a column that is needed."""
        there = sorted(set(present))
        if not there:
            raise ValueError(f"{source}: no row is a JSON object, whose keys would be the columns")
        for name in sorted(self.needed):
            if self.named(name) not in there:
                fix = " or name the kind with --kind" if name == "kind" else ""
                raise ValueError(
                    f"{source} has no column {self.named(name)!r}, only {', '.join(there)}: say "
                    f"which it is with --column {name}=NAME{fix}"
                )

    def judge(self, rows: Sequence[Any], first: int) -> list[Verdict]:
        """The rows' verdicts; `first` is the first row's number, for rows without an id."""
        from filter.verify import verify_many

        verdicts: dict[int, Verdict] = {}
        tasks: dict[int, Answer] = {}
        for number, row in enumerate(rows, first):
            try:
                tasks[number] = self._task(row, number)
            except ValueError as error:
                verdicts[number] = _failed(str(number), str(error))
        for number, verdict in zip(tasks, verify_many([*tasks.values()], self.rules), strict=True):
            verdicts[number] = verdict
        return [verdicts[number] for number in sorted(verdicts)]

    def _task(self, row: Any, number: int) -> Answer:
        """The row as a task. Raises a ValueError that says why it can't be judged."""
        if not isinstance(row, dict):
            raise ValueError(f"the row is no object with columns but {str(row)[:60]!r}")
        values = {name: row.get(self.named(name)) for name in COLUMNS}
        kind = self.kind if values["kind"] is None else values["kind"]
        kind = str(kind)
        if mistake := kind_mistake(kind, dict(self.rules.own)):
            raise ValueError(mistake)
        completion = values["completion"]
        if not isinstance(completion, str):
            raise ValueError(_no_text(self.named("completion"), completion))
        if values["reference"] is None and kind not in ("reasoning_gym", "open"):
            raise ValueError(_no_text(self.named("reference"), None))
        meta = _object(values["meta"], self.named("meta"))
        if values["choices"] is not None:
            meta["choices"] = _from_json(values["choices"], self.named("choices"))
        if kind == "reasoning_gym" and (lacks := {"family", "config", "entry"} - meta.keys()):
            raise ValueError(f"{self.named('meta')} lacks {', '.join(sorted(lacks))}")
        from filter.verify import Answer
        from generate.reasoning import split_reasoning

        ident = str(number if values["id"] is None else values["id"])
        problem = Problem(
            id=ident,
            prompt=_text(values["prompt"], self.named("prompt")),
            reference=_text(values["reference"], self.named("reference")),
            kind=kind,
            source="file",
            meta=meta,
        )
        return Answer(problem=problem, text=split_reasoning(completion).answer, trace_id=ident)


def _failed(ident: str, detail: str) -> Verdict:
    return Verdict(
        trace_id=ident,
        verifier="none",
        outcome="error",
        extracted=None,
        detail=detail,
        seconds=0.0,
    )


def _no_text(column: str, value: Any) -> str:
    if value is None:
        return f"{column} is missing"
    return f"{column} is no text but {type(value).__name__}"


def _text(value: Any, column: str) -> str:
    """A cell as text: objects and lists as JSON, without what an Arrow struct fills with nulls."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if item is not None}
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(_no_text(column, value)) from error


def _from_json(value: Any, column: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{column} is not JSON") from error


def _object(value: Any, column: str) -> dict[str, Any]:
    value = {} if value is None else _from_json(value, column)
    if not isinstance(value, dict):
        raise ValueError(f"{column} is no JSON object")
    return dict(value)
