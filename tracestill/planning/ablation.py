"""What the runs of a grid will take, before they do."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracestill.records import Manifest, read_manifest
from tracestill.records.layout import Stage
from tracestill.run.ablation import Planned, runs_in
from tracestill.run.sharing import complete, stages_to


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """Of one stage, in how many runs it is, how many of these share it with another run, how many
    times it is complete, and how many times it will be made. `seconds` are those of one, the mean
    of the complete ones; None where there is none.
    """

    stage: Stage
    runs: int
    shared: int
    complete: int
    missing: int
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPlan:
    """What a grid will take. Where other settings give the same content, fewer stages are made."""

    runs: int
    stages: list[StagePlan]

    @property
    def minutes(self) -> float | None:
        """About how long it takes; None where no run has made one of the stages yet."""
        total = 0.0
        for stage in self.stages:
            if not stage.missing:
                continue
            if stage.seconds is None:
                return None
            total += stage.missing * stage.seconds
        return total / 60


def plan_grid(runs: Sequence[Planned], out: Path, stop: Stage) -> GridPlan:
    """Count the stages of a grid's runs, and see which of them are complete; how long one
    takes is that of all runs in the folder `out`.

    Raises:
        ValueError: a manifest there is not readable.

    """
    there: list[dict[Stage, Manifest]] = [
        complete(run.recipe, run.folder, stop) if run.folder.is_dir() else {} for run in runs
    ]
    plans = []
    for stage in stages_to(stop):
        keys = {run.stages[stage] for run in runs}
        done = {run.stages[stage] for run, found in zip(runs, there, strict=True) if stage in found}
        seconds = _seconds(out, stage)
        plans.append(
            StagePlan(
                stage=stage,
                runs=len(runs),
                shared=len(runs) - len(keys),
                complete=len(done),
                missing=len(keys - done),
                seconds=statistics.fmean(seconds) if seconds else None,
            )
        )
    return GridPlan(runs=len(runs), stages=plans)


def _seconds(out: Path, stage: Stage) -> list[float]:
    """How long a stage took each time that it was made, not those that were taken over."""
    found = [read_manifest(run / stage) for run in runs_in(out)]
    return list({one.fingerprint: one.seconds for one in found if one is not None}.values())
