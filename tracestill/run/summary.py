"""What a run did, stage by stage: `summary.json`, and the table at a run's end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tracestill.records import read_manifest, write_atomic
from tracestill.records.figures import EvaluationFigures, Forgetting, ModelFigures
from tracestill.records.layout import SUMMARY, Stage, log_path
from tracestill.run.errors import StageError


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSummary:
    """A stage's line: rows in and out, rows dropped by reason, seconds it took when it was made,
    and what a user should read.
    """

    name: Stage
    rows_in: int
    rows_out: int
    dropped: dict[str, int]
    seconds: float
    reused: bool
    notes: list[str]
    log: Path

    def check(self) -> None:
        """Refuse to continue with no trace.

        Raises:
            StageError: the filter kept no trace; its notes say why.

        """
        if self.name == "filter" and self.rows_in and not self.rows_out:
            raise StageError(self.name, self.notes[-1], self.log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The stages so far, the evaluation of each model by its name, and what the student forgot, by
    benchmark.
    """

    stages: list[StageSummary] = field(default_factory=list)
    evaluate: dict[str, ModelFigures] = field(default_factory=dict)
    forgetting: dict[str, Forgetting] = field(default_factory=dict)
    seconds: float = 0.0

    def with_stage(self, entry: StageSummary, run: Path) -> Summary:
        """The summary with one more stage, which is complete in `run`."""
        manifest = read_manifest(run / entry.name)
        assert manifest is not None
        more = replace(self, stages=[*self.stages, entry])
        if isinstance(manifest.figures, EvaluationFigures):
            found = manifest.figures
            more = replace(more, evaluate=found.results, forgetting=found.forgetting)
        return more

    def with_seconds(self, seconds: float) -> Summary:
        """The summary with the time that the whole run took."""
        return replace(self, seconds=seconds)


def stage_summary(stage: Stage, run: Path, *, reused: bool) -> StageSummary:
    """A stage's line, from its manifest.

    Raises:
        StageError: it wrote none.

    """
    manifest = read_manifest(run / stage)
    if manifest is None:
        raise StageError(stage, "the stage wrote no manifest", log_path(run, stage))
    return StageSummary(
        name=stage,
        rows_in=manifest.rows_in,
        rows_out=manifest.rows_out,
        dropped=manifest.dropped,
        seconds=manifest.seconds,
        reused=reused,
        notes=manifest.notes,
        log=log_path(run, stage),
    )


def write_summary(run: Path, summary: Summary) -> None:
    """Write `summary.json`."""
    values = asdict(summary)
    del values["seconds"]
    for entry in values["stages"]:
        del entry["log"]
    write_atomic(run / SUMMARY, (json.dumps(values, indent=2) + "\n").encode())
