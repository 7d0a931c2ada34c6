"""Training in stages, each on a selection of the kept traces."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from kept_run import make_run, row
from training import TEMPLATE, examples, settings

from finetune import metrics
from finetune.curriculum import lay_out
from finetune.packing import pack, steps
from finetune.train import Trained, train
from tracestill.recipe.finetune import FinetuneSection
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


def test_a_course_is_each_stages_rows_with_its_own_rate() -> None:
    section = FinetuneSection.model_validate(
        finetune(
            {"epochs": 2, "learning_rate": 1e-3, "schedule": "linear", "warmup": 0.5},
            {"packing": False, "batch_size": 1, "epochs": 1, "schedule": "constant", "warmup": 0},
            batch_size=2,
        )
    )
    traces, lengths = [f"t{n}" for n in range(8)], [100, 60, 120, 90, 200, 30, 256, 10]
    course = lay_out(traces, lengths, section, [None, {"t1", "t3"}], seed=0, rate=5e-4)
    first, second = (part.steps for part in course.parts)
    whole = [
        sorted(place for step in part for row in step for place in course.rows[row])
        for part in (course.steps[:first], course.steps[first:])
    ]
    assert whole == [sorted([*range(8), *range(8)]), [1, 3]]
    assert second == 2  # a row each, one a step
    assert all(sum(lengths[place] for place in row) <= 256 for row in course.rows)
    up, down = course.rates[: first // 2], course.rates[first // 2 : first]
    assert up == sorted(up)
    assert up[0] == 0
    assert down[0] == 1e-3
    assert down == sorted(down, reverse=True)
    assert course.rates[first:] == [5e-4] * 2
    assert (course.peak, course.factor(first), course.factor(99)) == (1e-3, 0.5, 0.5)
    assert course.place(first) == {"stage": 1, "epoch": 2}
    assert course.place(first + 1) == {"stage": 2, "epoch": 0.5}
    assert course.passes(lengths) == pytest.approx(2 + (60 + 90) / sum(lengths))


def test_a_course_without_stages_is_the_training_as_ever() -> None:
    section = FinetuneSection.model_validate(finetune(batch_size=2, epochs=3))
    lengths = [100, 60, 120, 90, 200, 30, 256, 10]
    course = lay_out([f"t{n}" for n in range(8)], lengths, section, [], seed=4, rate=1.0)
    rows = pack(lengths, 256)
    assert (course.rows, course.steps) == (rows, steps(rows, 2, 3, 4))
    assert course.rates == []
    assert course.place(len(course.steps)) == {"epoch": 3}


def test_a_stage_whose_traces_are_all_held_out_is_told() -> None:
    section = FinetuneSection.model_validate(finetune({}, {}))
    with pytest.raises(ValueError, match=r"stage 2 selects can be learnt"):
        lay_out(["a"], [5], section, [None, {"b"}], seed=0, rate=1.0)


STAGED: dict[str, Any] = {
    "stages": [
        {"epochs": 1, "learning_rate": 3e-3},
        {"epochs": 2, "learning_rate": 1e-3, "packing": False, "schedule": "constant"},
    ],
    "checkpoint_every": 2,
}


def staged(folder: Path, **values: Any) -> Trained:
    """A training of two stages, the second on a third of the examples."""
    chosen = settings(**{**STAGED, **values})
    hardest = frozenset(f"t{n}" for n in range(0, 24, 3))
    return train(
        examples(24), chosen, student=chosen.student, template=TEMPLATE, folder=folder, seed=0,
        progress=lambda event: None, stages=[None, hardest],
    )  # fmt: skip


def test_a_staged_training_makes_one_set_of_metrics_and_resumes_in_the_second(
    tmp_path: Path,
) -> None:
    trained = staged(tmp_path / "whole")
    rows = metrics.read(tmp_path / "whole" / metrics.METRICS)
    assert {row["stage"] for row in rows} == {1, 2}
    second = [row for row in rows if row["stage"] == 2]
    assert len(second) == 8  # 8 rows of one sample, two a step, gone through twice
    assert {row["learning_rate"] for row in second[1:]} == {1e-3}
    assert max(row["learning_rate"] for row in rows) == 3e-3
    assert trained.figures.epochs > 1
    assert trained.figures.steps == len(rows)
    # As a kill in the second stage leaves it.
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    last = tmp_path / "killed" / "checkpoints"
    for path in last.glob("checkpoint-*"):
        if int(path.name.rpartition("-")[2]) == len(rows):
            shutil.rmtree(path)
    resumed = staged(tmp_path / "killed")
    assert resumed.figures.resumed_from_step > len(rows) - len(second)
    same = [
        (tmp_path / name / "merged" / "model.safetensors").read_bytes()
        for name in ("whole", "killed")
    ]
    assert same[0] == same[1]
    with pytest.raises(ValueError, match=r"settings\.stages was"):
        staged(tmp_path / "killed", stages=[{"epochs": 1}, {"epochs": 3}])


def test_stages_need_a_number_of_epochs() -> None:
    with pytest.raises(ValueError, match="epochs: auto says none"):
        settings(epochs="auto", stages=[{}])
