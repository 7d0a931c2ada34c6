"""What a layout is: how a row of a public data set becomes a problem and its responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tracestill.records import Finish, Kind

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A response that a row holds. `tokens` is 0 where the data set does not count them;
    `teacher` is who wrote it where rows differ.
    """

    raw: str
    raw_reasoning: str | None = None
    finish: Finish = "stop"
    error: str | None = None
    tokens: int = 0
    teacher: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a row says: a problem and the responses to it, in order.

    `facts` is what the data set knows of the problem, such as its difficulty. What it claims of
    an answer's correctness is no part of it: answers are verified here.
    """

    prompt: str
    reference: str
    kind: Kind
    found: tuple[Found, ...]
    source: str = ""
    language: str = "en"
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A data set's layout.

    `needs` are the columns that every row has, `uses` those that are read if they are there;
    `read` raises ValueError where a row can't be understood. `dataset`, `config` and `split` are
    where the hub has it, `teacher` is who wrote the responses.
    """

    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()
    read: Callable[[Row], Content]
    teacher: str
    dataset: str | None = None
    config: str | None = None
    split: str = "train"


def text(row: Row, column: str) -> str:
    """A column's text, without white space around it.

    Raises:
        ValueError: there is none.

    """
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in {column}")
    return value.strip()


def optional(row: Row, column: str) -> str:
    """A column's value as text, "" where there is none."""
    value = row.get(column)
    return "" if value is None else str(value).strip()


def facts(row: Row, *columns: str) -> dict[str, Any]:
    """Those of the columns that hold something."""
    return {name: row[name] for name in columns if row.get(name) not in (None, "", [])}


def whole(value: Any) -> int:
    """A count of tokens; 0 where there is none."""
    return int(value) if isinstance(value, int | float) and value > 0 else 0
