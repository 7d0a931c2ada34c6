"""A small run up to its filter, made of traces that are there already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tracestill.recipe.loading import dump_recipe, load_recipe
from tracestill.recipe.schema import Recipe
from tracestill.records.layout import RECIPE
from tracestill.records.progress import ignore_progress
from tracestill.run.pipeline import make_stage

ROOT = Path(__file__).parent.parent


def row(number: int, **changed: Any) -> dict[str, Any]:
    """A trace of the data set that the run imports."""
    return {
        "prompt": f"What is {number} + 1?",
        "reference": str(number + 1),
        "response": f"<think>\nTake {number}. Add one.\n</think>\n\nIt is \\boxed{{{number + 1}}}.",
        "source": "even" if number % 2 == 0 else "odd",
        "teacher": "deepseek-ai/DeepSeek-R1",
        "tokens": 20 + number,
        **changed,
    }


def make_run(folder: Path, rows: list[dict[str, Any]], **sections: Any) -> tuple[Recipe, Path]:
    """The recipe and the folder of a run whose filter is made. `sections` are put over the
    recipe's own.
    """
    (folder / "traces.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (folder / "heldout.jsonl").write_text(json.dumps({"prompt": "50 + 1?", "reference": "51"}))
    values = {
        "name": "sums",
        "problems": {"heldout": [{"source": "file", "path": "heldout.jsonl"}]},
        "generate": {"engine": "import", "layout": "table", "path": "traces.jsonl"},
        "filter": {"steps": ["form", "verify", "contamination", "exact"]},
        "finetune": {"student": str(ROOT / "miniature/student"), "template": "miniature"},
        **sections,
    }
    (folder / "sums.yaml").write_text(yaml.safe_dump(values))
    recipe, run = load_recipe(folder / "sums.yaml"), folder / "run"
    run.mkdir()
    (run / RECIPE).write_text(dump_recipe(recipe))
    for stage in ("problems", "generate", "filter"):
        make_stage(stage, recipe, run, ignore_progress)
    return recipe, run
