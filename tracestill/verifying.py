"""Judge a file of answers: JSONL or Parquet in, the same rows with their verdicts out."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filter.sandbox import BUBBLEWRAP, Sandbox
from tracestill.records import Kind, Outcome, Problem, Verdict

if typing.TYPE_CHECKING:
    import pyarrow as pa

    from filter.verify import Answer

KINDS: tuple[Kind, ...] = typing.get_args(Kind)
COLUMNS = ("id", "kind", "reference", "completion", "prompt", "meta", "choices")
RESULTS = ("outcome", "extracted", "verifier", "detail", "seconds")
_CHUNK = 1024  # rows in memory at once
_LONGEST_INT = 4000  # Python refuses to convert longer decimal numbers

Row = dict[str, Any]


def verify_file(
    source: Path,
    target: Path,
    columns: Mapping[str, str],
    kind: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    sandbox: Sandbox = BUBBLEWRAP,
) -> Counter[Outcome]:
    """Judge each row of a `.jsonl` or `.parquet` file; how many had which outcome.

    `columns` says where one of `COLUMNS` has another name in the file; `kind` is the kind of rows
    that have none. `target` becomes the same rows in the same order with the columns `RESULTS`,
    and appears when it is whole; memory holds a chunk of rows. A row that can't be judged has an
    outcome too, `error`, and the reason in its `detail`. Programs run in `sandbox`. `progress` is
    told the rows done so far.

    Raises:
        ValueError: the file can't be read, or has no such column; nothing is written then.
        OSError: `target` can't be written.
        RuntimeError: a verifier's process can't be started.

    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"--kind {kind}: the kinds are {', '.join(KINDS)}")
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise ValueError(f"--column {unknown[0]}=…: the columns are {', '.join(COLUMNS)}")
    if source.suffix not in _FORMATS:
        raise ValueError(f"{source} is neither .jsonl nor .parquet")
    if target.suffix != source.suffix:
        raise ValueError(f"{target} must end in {source.suffix}, as {source} does")
    if target.is_dir():
        raise ValueError(f"{target} is a folder: name a file")
    if not source.is_file():
        raise ValueError(f"{source} is no file")
    needed = {"completion"}
    if kind is None:
        needed.add("kind")
    if kind != "reasoning_gym":  # its references are in `meta`
        needed.add("reference")
    needed |= set(columns)
    table = _Table(columns=columns, kind=kind, needed=frozenset(needed), sandbox=sandbox)
    counts: Counter[Outcome] = Counter()
    with _appear(target) as temporary:
        for verdicts in _FORMATS[source.suffix](source, temporary, table):
            counts.update(verdict.outcome for verdict in verdicts)
            progress(counts.total())
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """How a file's rows become tasks."""

    columns: Mapping[str, str]
    kind: str | None
    needed: frozenset[str]
    sandbox: Sandbox

    def named(self, name: str) -> str:
        return self.columns.get(name, name)

    def check(self, source: Path, present: Iterable[str]) -> None:
        """Raise a ValueError where the file lacks a column that is needed."""
        there = sorted(set(present))
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
        for number, verdict in zip(
            tasks, verify_many([*tasks.values()], self.sandbox), strict=True
        ):
            verdicts[number] = verdict
        return [verdicts[number] for number in sorted(verdicts)]

    def _task(self, row: Any, number: int) -> Answer:
        """The row as a task. Raises a ValueError that says why it can't be judged."""
        if not isinstance(row, dict):
            raise ValueError(f"the row is no object with columns but {str(row)[:60]!r}")
        values = {name: row.get(self.named(name)) for name in COLUMNS}
        kind = self.kind if values["kind"] is None else values["kind"]
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}")
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


def _results(verdict: Verdict) -> Row:
    return {name: getattr(verdict, name) for name in RESULTS}


def _through_jsonl(source: Path, target: Path, table: _Table) -> Iterator[list[Verdict]]:
    seen: set[str] = set()
    begin = 0
    with target.open("wb") as file:
        for rows in _chunks(_json_rows(source)):
            verdicts = table.judge(rows, begin)
            for row, verdict in zip(rows, verdicts, strict=True):
                whole = row if isinstance(row, dict) else {"row": row}
                seen.update(whole)
                file.write(_json_line({**whole, **_results(verdict)}))
            begin += len(rows)
            yield verdicts
    if begin:  # no row needs to have all columns, but a column that none has is misnamed
        table.check(source, seen)


def _json_rows(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                yield json.loads(line, parse_int=_int)
            except (ValueError, RecursionError) as error:
                reason = str(error) or type(error).__name__
                raise ValueError(f"{path}, line {number} is not JSON: {reason}") from error


def _int(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST_INT else digits


def _json_line(row: Row) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 has no bytes for
        return json.dumps(row).encode() + b"\n"


def _chunks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(rows, _CHUNK)):
        yield chunk


def _through_parquet(source: Path, target: Path, table: _Table) -> Iterator[list[Verdict]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    results = {name: pa.float64() if name == "seconds" else pa.string() for name in RESULTS}
    begin = 0
    try:
        with pq.ParquetFile(source) as file:
            names = file.schema_arrow.names
            table.check(source, names)
            read = [n for n in dict.fromkeys(map(table.named, COLUMNS)) if n in names]
            kept = [name for name in names if name not in RESULTS]
            schema = pa.schema(
                [file.schema_arrow.field(name) for name in kept]
                + [pa.field(name, kind) for name, kind in results.items()]
            )
            with pq.ParquetWriter(target, schema, compression="zstd") as writer:
                for batch in file.iter_batches(batch_size=_CHUNK):
                    verdicts = table.judge(_arrow_rows(batch.select(read)), begin)
                    cells = [_results(verdict) for verdict in verdicts]
                    arrays = [batch.column(name) for name in kept]
                    arrays += [
                        pa.array([_writable(cell[name]) for cell in cells], kind)
                        for name, kind in results.items()
                    ]
                    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
                    begin += batch.num_rows
                    yield verdicts
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{source} can't be read as Parquet: {reason}") from error


def _arrow_rows(batch: pa.RecordBatch) -> list[Any]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:  # Parquet does not check its texts: find the rows that are none
        if batch.num_rows == 1:
            return ["text that is not UTF-8"]
        parts = (_arrow_rows(batch.slice(at, 1)) for at in range(batch.num_rows))
        return [row for part in parts for row in part]


def _writable(value: Any) -> Any:
    """Text without the halves of surrogate pairs that JSON may hold and UTF-8 may not."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


_FORMATS: dict[str, Callable[[Path, Path, _Table], Iterator[list[Verdict]]]] = {
    ".jsonl": _through_jsonl,
    ".parquet": _through_parquet,
}


@contextlib.contextmanager
def _appear(target: Path) -> Iterator[Path]:
    """A temporary path beside the target that becomes the target at the end, or vanishes."""
    from tracestill.records.tables import sync_folder

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
