"""How a row of a public data set becomes a problem and its responses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from generate.messages import Message
from tracestill.records import Finish, Kind

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResponse:
    """A response in a row. `tokens` is 0 where the data set does not count them; `teacher` is the
    model that wrote it where rows differ in it.
    """

    raw: str
    raw_reasoning: str | None = None
    finish: Finish = "stop"
    error: str | None = None
    tokens: int = 0
    teacher: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRow:
    """A row as it was read: a problem and the responses to it, in order.

    `facts` is what the data set knows of the problem, such as its difficulty. What it claims of
    an answer's correctness is left out: answers are verified here.
    """

    prompt: str
    responses: tuple[RowResponse, ...]
    reference: str = ""
    kind: Kind = "open"
    source: str = ""
    language: str = "en"
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat:
    """The format of a data set's rows, which recipes name in `generate.layout`.

    `needs` are the columns that every row has, `uses` those that are read if present, both with
    dots where they are fields of structs; `read` raises ValueError where a row can't be understood.
    `dataset`, `config` and `split` are where the hub has it, `teacher` is the model that wrote the
    responses.
    """

    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()
    read: Callable[[Row], ParsedRow]
    teacher: str
    dataset: str | None = None
    config: str | None = None
    split: str = "train"


def response(said: Message, tokens: int = 0, teacher: str | None = None) -> RowResponse:
    """The response that a message is."""
    return RowResponse(raw=said.text, raw_reasoning=said.reasoning, tokens=tokens, teacher=teacher)


def column_of(name: str, columns: Collection[str]) -> str | None:
    """The column that holds `name`, which may be a field of a struct (`struct.field`); None where
    there is none.
    """
    top = name.partition(".")[0]
    return next((column for column in (name, top) if column in columns), None)


def value_of(row: Row, name: str) -> Any:
    """The value in a column, or in a field of a struct; None where there is none."""
    if name in row or "." not in name:
        return row.get(name)
    top, _, rest = name.partition(".")
    inner = row.get(top)
    return value_of(inner, rest) if isinstance(inner, Mapping) else None


def text(row: Row, column: str) -> str:
    """A column's text, without white space around it.

    Raises:
        ValueError: it has none.

    """
    value = value_of(row, column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in {column}")
    return value.strip()


def optional(row: Row, column: str) -> str:
    """A column's value as text, "" where there is none."""
    value = value_of(row, column)
    return "" if value is None else str(value).strip()


def facts(row: Row, *columns: str) -> dict[str, Any]:
    """The columns of these names that are not empty."""
    return {name: row[name] for name in columns if row.get(name) not in (None, "", [])}


def whole(value: Any) -> int:
    """A number of tokens; 0 where there is none."""
    return int(value) if isinstance(value, int | float) and value > 0 else 0
