"""What training a recipe's student will take: the planner, told what the run knows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetune.planner import TrainingPlan, plan
from finetune.planner import devices as known
from finetune.planner.calibration import read_calibration
from finetune.planner.known_shapes import known_config
from finetune.planner.unknown import shape_of
from tracestill.planning.lengths import local_file, sample_lengths
from tracestill.recipe.schema import Recipe
from tracestill.records.content import model_name


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentPlan:
    """The plan of `student` and how many samples it learns from; in words, where their lengths come
    from (`source`), where its speed does, and `notes`, what else to know of how it was made.
    """

    student: str
    plan: TrainingPlan
    samples: int
    source: str
    speed: str
    notes: list[str]


def plan_student(recipe: Recipe, run: Path, source: Path, gpu: str | None) -> StudentPlan:
    """Plan the stage finetune for the GPU that `gpu` names, or for this machine.

    The samples' lengths are those of the run's kept traces, or else of what is sampled in `source`,
    in the student's tokens. A student that the planner has no formulas for is traced. On
    this machine's CPU a short probe measures the speed.

    Raises:
        ValueError: the student's sizes are not known, it can't be traced, the GPU is not known, or
            no sample would fit a row; one line with the fix.

    """
    settings = recipe.finetune
    config, notes = student_config(settings.student, settings.revision)
    device = known.named(gpu) if gpu else known.here()
    shape = shape_of(config)
    if shape.traced is not None:
        notes.append(
            f"the planner has no formulas for {shape.architecture}: its memory is traced through "
            "its own code, its speed goes by its sizes"
        )
    lengths = sample_lengths(recipe, run, source)
    if lengths.source and not lengths.tokens:
        notes.append(f"{lengths.source}, so how long it lasts in all is not known")
    calibration = read_calibration(run / "finetune", device.name)
    speed = "assumed, not measured"
    if calibration is not None:
        device, speed = calibration.of(device), "as measured when this run trained on it"
    made = plan(settings, shape, device, lengths.tokens, calibration, lengths.learnt)
    if calibration is None and not device.cuda and find_spec("torch") is not None:
        from finetune.planner.probe import busy, probed

        made = probed(config, made)
        if made.job.calibration is not None:
            speed = "measured here with a few layers"
            if busy():
                speed += ", while other work takes this machine: without it training is faster"
    return StudentPlan(
        student=model_name(settings.student),
        plan=made,
        samples=len(lengths.tokens),
        source=lengths.source,
        speed=speed,
        notes=notes,
    )


def student_config(model: str, revision: str | None) -> tuple[dict[str, Any], list[str]]:
    """A model's config.json, from its folder or from the hub's cache on this machine; of a
    well-known model that is in neither the sizes alone, with a note that says so.

    Raises:
        ValueError: it is not to be had.

    """
    path = local_file(model, revision, "config.json")
    if path is not None:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return config, []
    if model.startswith("/"):
        raise ValueError(f"finetune.student: {model} has no config.json")
    sizes = known_config(model)
    fetch = f"`hf download {model} config.json`"
    if sizes is None:
        raise ValueError(
            f"finetune.student: the config.json of {model} is not on this machine; {fetch} fetches "
            "it"
        )
    return sizes, [
        f"the config.json of {model} is not on this machine: its sizes are those of a table that "
        f"comes with tracestill; {fetch} fetches it"
    ]
