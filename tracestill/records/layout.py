"""Where the parts of a run lie, and in which order its stages come."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

Stage = Literal["problems", "generate", "filter", "finetune", "evaluate", "report"]
Job = Stage | Literal["pilot", "benchmark"]  # what a process of its own does
STAGES: tuple[Stage, ...] = get_args(Stage)

RECIPE = "recipe.yaml"
PROVENANCE = "provenance.json"
SUMMARY = "summary.json"
REPORT = "report.html"
FUNNEL = "funnel.json"
GGUF_FIGURES = "gguf.json"  # beside the files


def recipe_path(run: Path) -> Path:
    """The recipe with which a run was made.

    Raises:
        ValueError: there is none: the folder is no run.

    """
    path = run / RECIPE
    if not path.is_file():
        raise ValueError(f"{run} is no run: it has no {RECIPE}; runs lie in runs/<name>")
    return path


def log_path(run: Path, stage: str) -> Path:
    """A stage's log."""
    return run / "logs" / f"{stage}.log"
