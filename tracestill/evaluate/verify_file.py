"""Judge a file of answers: JSONL or Parquet in, the same rows with their verdicts out."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tracestill.evaluate.judged_rows import COLUMNS, Judging
from tracestill.evaluate.row_files import FORMATS
from tracestill.recipe.rules import RULES, Rules, kind_mistake
from tracestill.records import Outcome
from tracestill.records.files import sync_folder


def verify_file(
    source: Path,
    target: Path,
    columns: Mapping[str, str],
    kind: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    rules: Rules = RULES,
) -> Counter[Outcome]:
    """Judge each row of a `.jsonl` or `.parquet` file; how many had which outcome.

    `columns` says where one of `COLUMNS` has another name in the file; `kind` is the kind of rows
    that have none. `target` becomes the same rows in the same order with the columns `RESULTS`,
    and appears when it is whole; memory holds a chunk of rows. A row that can't be judged has an
    outcome too, `error`, and the reason in its `detail`. `progress` is told the rows done so far.

    Raises:
        ValueError: the file can't be read, or has no such column; nothing is written then.
        OSError: `target` can't be written.
        RuntimeError: a verifier's process can't be started.

    """
    if kind is not None and (mistake := kind_mistake(kind, dict(rules.own))):
        raise ValueError(f"--kind {kind}: {mistake}")
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise ValueError(f"--column {unknown[0]}=…: the columns are {', '.join(COLUMNS)}")
    if source.suffix not in FORMATS:
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
    table = Judging(columns=columns, kind=kind, needed=frozenset(needed), rules=rules)
    counts: Counter[Outcome] = Counter()
    with _appear(target) as temporary:
        for verdicts in FORMATS[source.suffix](source, temporary, table):
            counts.update(verdict.outcome for verdict in verdicts)
            progress(counts.total())
    return counts


@contextlib.contextmanager
def _appear(target: Path) -> Iterator[Path]:
    """A temporary path beside the target that becomes the target at the end, or vanishes."""
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
