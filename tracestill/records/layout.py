"""Where the parts of a run lie, and in which order its stages come."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

Stage = Literal["problems", "generate", "filter", "finetune", "evaluate", "report"]
Job = Stage | Literal["pilot"]  # what a process of its own does
STAGES: tuple[Stage, ...] = get_args(Stage)

RECIPE = "recipe.yaml"
PROVENANCE = "provenance.json"
SUMMARY = "summary.json"
REPORT = "report.html"
GGUF_FIGURES = "gguf.json"  # beside the files


def log_path(run: Path, stage: str) -> Path:
    """A stage's log."""
    return run / "logs" / f"{stage}.log"
