"""What a stage returns, and the manifest that declares it complete.

The manifest is written last: one that is there means that the stage is complete.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec

from tracestill.records.content import file_hash
from tracestill.records.figures import (
    EvaluationFigures,
    Figures,
    FilterFigures,
    ProblemFigures,
    SamplingFigures,
    TrainingFigures,
)
from tracestill.records.files import write_atomic
from tracestill.records.identity import FORMAT, digest

_FIGURES: dict[str, type[Figures]] = {
    "problems": ProblemFigures,
    "generate": SamplingFigures,
    "filter": FilterFigures,
    "finetune": TrainingFigures,
    "evaluate": EvaluationFigures,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A Parquet file of a table: its name, its rows, its size in bytes, its content's hash.

    `content` is the hash of the columns that alone decide whether a stage that reads the table is
    made again, and None where all of them do.
    """

    file: str
    rows: int
    bytes: int
    sha256: str
    content: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Any other file that a stage made: its path below the stage's folder, size and hash."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """What a stage returns when it is done. `rows_in` equals `rows_out` plus the sum of `dropped`
    (rows by reason).

    `files` are files and folders below the stage's own that belong to the result beside the
    tables. `notes` are lines that a user should read when the stage ends. `cut_short` is true
    where the recipe's budget ended the stage before it had what was asked for.
    """

    rows_in: int
    rows_out: int
    dropped: dict[str, int] = field(default_factory=dict)
    tables: dict[str, list[Shard]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: Figures | None = None
    cut_short: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a complete stage says of itself.

    `fingerprint` is of the stage's settings and of the content of its inputs, and decides on
    reuse. `figures` are None where the stage has none.
    """

    stage: str
    fingerprint: str
    rows_in: int
    rows_out: int
    dropped: dict[str, int] = field(default_factory=dict)
    seconds: float
    tables: dict[str, list[Shard]] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: Figures | None = None
    cut_short: bool = False
    format: int = FORMAT

    def content(self, *names: str) -> str:
        """A hash of what the stage made: of the tables and folders of these names, or of all."""
        shards = {
            name: [shard.content or shard.sha256 for shard in shards]
            for name, shards in self.tables.items()
            if not names or name in names
        }
        files = [
            [one.file, one.sha256]
            for one in self.files
            if not names or one.file.partition("/")[0] in names
        ]
        return digest(shards, files)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which declares the stage complete.

    Raises:
        AssertionError: the rows do not add up.

    """
    total = manifest.rows_out + sum(manifest.dropped.values())
    assert manifest.rows_in == total, (
        f"{manifest.stage}: {manifest.rows_in} rows in, but {manifest.rows_out} kept and "
        f"{manifest.dropped} dropped"
    )
    values = asdict(manifest)
    values["details"] = values.pop("figures") or {}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / "manifest.json", text.encode())


def as_manifest(
    folder: Path, result: StageResult, *, stage: str, fingerprint: str, seconds: float
) -> Manifest:
    """The manifest of a stage that made `result` in `folder`; its files are hashed."""
    return Manifest(
        stage=stage,
        fingerprint=fingerprint,
        rows_in=result.rows_in,
        rows_out=result.rows_out,
        dropped=result.dropped,
        seconds=seconds,
        tables=result.tables,
        files=[_file(folder, path) for name in result.files for path in _below(folder / name)],
        notes=result.notes,
        figures=result.figures,
        cut_short=result.cut_short,
    )


def _below(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    # A model card is written again when more is known.
    return sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".md")


def _file(folder: Path, path: Path) -> File:
    return File(
        file=os.path.relpath(path, folder),
        bytes=path.stat().st_size,
        sha256=file_hash(path),
    )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a stage's folder, or None where the stage is not complete.

    Raises:
        ValueError: the manifest is not readable.

    """
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_bytes())
        values |= {
            "tables": {
                name: [Shard(**shard) for shard in shards]
                for name, shards in values["tables"].items()
            },
            "files": [File(**file) for file in values.get("files", [])],
            "figures": _read_figures(values["stage"], values["details"]),
        }
        known = {field.name for field in fields(Manifest)}
        return Manifest(**{name: value for name, value in values.items() if name in known})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a manifest ({error}); delete it to make this stage again "
            "(the responses in a journal are kept and reused)"
        ) from error


def _read_figures(stage: str, details: Mapping[str, Any]) -> Figures | None:
    if stage not in _FIGURES or not details:
        return None
    if stage == "finetune" and "export" not in details:  # before format 3 all lay side by side
        details = {**details, "export": details}
    return msgspec.convert(details, _FIGURES[stage], str_keys=True)


def missing_file(folder: Path, manifest: Manifest) -> Path | None:
    """The first file that a manifest lists and that is not there."""
    listed: Iterator[Shard | File] = itertools.chain(*manifest.tables.values(), manifest.files)
    return next((folder / one.file for one in listed if not (folder / one.file).exists()), None)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare the sizes of the shards and of the other files with the manifest.

    Raises:
        ValueError: one is missing or has another size.

    """
    listed: Iterator[Shard | File] = itertools.chain(*manifest.tables.values(), manifest.files)
    for one in listed:
        path = folder / one.file
        size = path.stat().st_size if path.exists() else None
        if size != one.bytes:
            state = "is missing" if size is None else f"has {size:,} of {one.bytes:,} bytes"
            raise ValueError(
                f"{path} {state}; delete {folder / 'manifest.json'} to make this stage again "
                "(the responses in a journal are kept and reused)"
            )
