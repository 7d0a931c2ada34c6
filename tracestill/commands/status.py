"""`tracestill status`: how far a run is."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tracestill.commands.options import RunPath
from tracestill.records.layout import STAGES, recipe_path


def status(run: RunPath) -> None:
    """Say which stages of a run are complete and how far the others are."""
    recipe_path(run)  # or it is no run
    from rich.console import Console
    from rich.table import Table

    from tracestill.records import check_files, missing_file, read_manifest

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("stage", "state", "rows in", "rows out", "seconds"):
        table.add_column(name, justify="left" if name in ("stage", "state") else "right")
    for stage in STAGES:
        try:
            manifest = read_manifest(run / stage)
            lost = missing_file(run / stage, manifest) if manifest else None
            if manifest is not None and lost is None:
                check_files(run / stage, manifest)
        except ValueError as error:
            table.add_row(stage, f"[red]damaged[/]: {error}")
            continue
        if manifest is None:
            table.add_row(stage, _unfinished(run / stage))
        elif lost is not None:
            table.add_row(stage, f"[red]incomplete[/]: {os.path.relpath(lost, run)} is missing")
        else:
            table.add_row(
                stage, "[green]complete", f"{manifest.rows_in:,}", f"{manifest.rows_out:,}",
                f"{manifest.seconds:.1f}",
            )  # fmt: skip
    Console(highlight=False).print(table)


def _unfinished(folder: Path) -> str:
    """How far a stage without a manifest is."""
    rows = sum(
        file.read_bytes().count(b"\n") for file in folder.glob("*journal.jsonl") if file.is_file()
    )
    if rows:
        return f"unfinished, {rows:,} responses in the journal"
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    if lines:
        return f"unfinished, {json.loads(lines[-1]).get('step')} steps done"
    return "unfinished" if folder.is_dir() else "not begun"
