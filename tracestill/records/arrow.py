"""Records as rows of Arrow tables: their schemas are derived from the record classes."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Hashable
from typing import Any, Literal, TypeVar

if typing.TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R")


def _arrow_type(annotation: Any) -> tuple[pa.DataType, bool]:
    """The Arrow type of a field's annotation, and whether it may be null."""
    import pyarrow as pa

    scalars: dict[Any, pa.DataType] = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
    }
    if annotation in scalars:
        return scalars[annotation], False
    if dataclasses.is_dataclass(annotation):
        return pa.struct(list(arrow_schema(typing.cast(type, annotation)))), False
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return pa.string(), False
    if origin is list:
        return pa.list_(_arrow_type(args[0])[0]), False
    if origin is dict:
        return pa.string(), False  # as JSON: its keys differ from row to row
    if origin in (types.UnionType, typing.Union):
        (inner,) = [arg for arg in args if arg is not type(None)]
        return _arrow_type(inner)[0], True
    raise TypeError(f"no Arrow type for {annotation!r}")


def arrow_schema(record: type) -> pa.Schema:
    """The Arrow schema of a record class: a column for each field, dicts as JSON text."""
    import pyarrow as pa

    hints = typing.get_type_hints(record)
    fields = []
    for item in dataclasses.fields(record):
        arrow, nullable = _arrow_type(hints[item.name])
        fields.append(pa.field(item.name, arrow, nullable=nullable))
    return pa.schema(fields)


@functools.cache
def _hints(record: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(record)


def to_row(record: Any) -> dict[str, Any]:
    """A record as a plain dict that fits its Arrow schema."""
    row: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        if dataclasses.is_dataclass(value):
            value = to_row(value)
        elif isinstance(value, dict):
            value = json.dumps(value, ensure_ascii=False, sort_keys=True)
        row[item.name] = value
    return row


def from_row(record: type[R], row: dict[str, Any]) -> R:
    """The record that `to_row` made this row of."""
    hints = _hints(typing.cast(Hashable, record))
    values: dict[str, Any] = {}
    for item in dataclasses.fields(record):  # type: ignore[arg-type]
        value, hint = row[item.name], hints[item.name]
        if dataclasses.is_dataclass(hint):
            value = from_row(typing.cast(type, hint), value)
        elif typing.get_origin(hint) is dict and isinstance(value, str):
            value = json.loads(value)
        values[item.name] = value
    return record(**values)


def arrow_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; half a surrogate pair in a text becomes a question mark."""
    import pyarrow as pa

    try:
        return pa.Table.from_pylist(rows, schema)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON may hold, is no text
        return pa.Table.from_pylist([_as_text(row) for row in rows], schema)


def _as_text(value: Any) -> Any:
    """A row with a question mark for each half of a surrogate pair."""
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
