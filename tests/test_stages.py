"""Training in stages, each on a selection of the kept traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kept_run import make_run, row

from tracestill.records import StageTrace, read_manifest, read_table
from tracestill.records.progress import ignore_progress
from tracestill.run.pipeline import make_stage
from tracestill.stages.curriculum import stage_traces

ROOT = Path(__file__).parent.parent


def finetune(*stages: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {
        "student": str(ROOT / "miniature/student"), "template": "miniature", "max_length": 256,
        "stages": list(stages), **values,
    }  # fmt: skip


def test_each_stage_selects_among_what_all_steps_leave(tmp_path: Path) -> None:
    rows = [row(n, **({"response": "no"} if n >= 16 else {})) for n in range(20)]
    section = finetune(
        {"select": {"by": "shortest", "total": 4}},
        {},
        {"select": {"by": "first", "keep": None, "share": 1.0, "among": {"sources": ["odd"]}}},
        {"select": {"by": "longest", "total": 3}},
    )
    recipe, run = make_run(tmp_path, rows, finetune=section)
    manifest = read_manifest(run / "filter")
    assert manifest is not None
    assert manifest.rows_out == 16  # a stage drops nothing
    first, every, third, last = stage_traces(recipe, run)
    assert every is None
    assert first is not None
    assert last is not None
    assert (len(first), len(last)) == (4, 3)
    assert not first & last
    assert third is not None
    assert len(third) == 16  # those that a selection is not about pass it
    assert len(list(read_table(run / "filter", "stages", StageTrace))) == 4 + 16 + 3


def test_a_stage_that_selects_nothing_is_told_before_any_training(tmp_path: Path) -> None:
    section = finetune({"select": {"by": "shortest", "keep": [1000, None]}})
    with pytest.raises(ValueError, match="selection number 1 leaves none of the 4 kept traces"):
        make_run(tmp_path, [row(n) for n in range(4)], finetune=section)


def test_another_selection_makes_the_filter_again_and_another_epoch_does_not(
    tmp_path: Path,
) -> None:
    rows = [row(n) for n in range(8)]
    recipe, run = make_run(
        tmp_path, rows, finetune=finetune({"select": {"by": "shortest", "total": 4}})
    )
    stage = {"select": {"by": "shortest", "total": 2}, "epochs": 2}
    changed = recipe.model_copy(
        update={"finetune": type(recipe.finetune).model_validate(finetune(stage))}
    )
    make_stage("filter", changed, run, ignore_progress)
    (selected,) = stage_traces(changed, run)
    assert selected is not None
    assert len(selected) == 2
