"""How far a run is, stage by stage, also while it goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from generate.ledger import INDEXED, UNANSWERED
from tracestill.records import Manifest, check_files, missing_file, read_manifest
from tracestill.records import journal as journals
from tracestill.records.layout import STAGES, Stage
from tracestill.run.lock import held

State = Literal["complete", "running", "unfinished", "not begun", "damaged", "incomplete"]

_NO_RESPONSES = ("verdicts.", "scores.")  # what journals of these names hold
_TAIL = 1 << 16  # bytes of a file in which its last line is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class StageState:
    """A stage: `manifest` where it is complete, else what is there of it. `said` tells what is
    damaged or missing.
    """

    stage: Stage
    state: State
    manifest: Manifest | None = None
    responses: int = 0
    """Of a teacher or of the evaluated models, in the journals."""
    failed: int = 0
    tokens: int = 0
    """Of prompts and completions, failed attempts included; of the teacher's journal only."""
    cost: float = 0.0
    """In the currency of the recipe's prices."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The last step's row of `finetune/metrics.jsonl`."""
    said: str = ""


class RunStates:
    """The states of a run's stages. Asked again, it reads only what has come since."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._journals: dict[Path, _Journal] = {}

    @property
    def running(self) -> bool:
        """Whether a process works on the run."""
        return held(self._run)

    def look(self) -> list[StageState]:
        """The state of every stage, in their order. The first that is not complete is the one that
        runs, if any does.
        """
        running, found = self.running, []
        for stage in STAGES:
            state = self._stage(stage)
            if running and state.state in ("unfinished", "not begun", "incomplete"):
                state, running = _as_running(state), False
            found.append(state)
        return found

    def _stage(self, stage: Stage) -> StageState:
        folder = self._run / stage
        try:
            manifest = read_manifest(folder)
            lost = missing_file(folder, manifest) if manifest else None
            if manifest is not None and lost is None:
                check_files(folder, manifest)
        except ValueError as error:
            return StageState(stage=stage, state="damaged", said=str(error))
        if manifest is not None and lost is None:
            return StageState(stage=stage, state="complete", manifest=manifest)
        if lost is not None:
            said = f"{os.path.relpath(lost, self._run)} is missing"
            return StageState(stage=stage, state="incomplete", said=said)
        if not folder.is_dir():
            return StageState(stage=stage, state="not begun")
        seen = [
            self._seen(path)
            for path in sorted(folder.rglob("*journal.jsonl"))
            if not path.name.startswith(_NO_RESPONSES)
        ]
        return StageState(
            stage=stage,
            state="unfinished",
            responses=sum(one.responses for one in seen),
            failed=sum(one.failed for one in seen),
            tokens=sum(one.tokens for one in seen),
            cost=sum(one.cost for one in seen),
            training=_last_row(folder / "metrics.jsonl"),
        )

    def _seen(self, path: Path) -> _Journal:
        journal = self._journals.setdefault(path, _Journal(path=path))
        journal.read()
        return journal


def _as_running(state: StageState) -> StageState:
    return StageState(
        stage=state.stage, state="running", responses=state.responses, failed=state.failed,
        tokens=state.tokens, cost=state.cost, training=state.training,
    )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class _Journal:
    """What a journal holds, as far as it was read."""

    path: Path
    responses: int = 0
    failed: int = 0
    tokens: int = 0
    cost: float = 0.0
    end: int = 0

    def read(self) -> None:
        """Count the responses that came since."""
        if self.path.stat().st_size < self.end:  # another run began in this folder
            self.responses = self.failed = self.tokens = self.end = 0
            self.cost = 0.0
        for values, end in journals.follow(self.path, INDEXED, self.end):
            self.end = end
            head = dict(zip(INDEXED, values, strict=True))
            self.responses += 1
            self.failed += head["finish"] in UNANSWERED
            self.tokens += head["spent"] or 0
            self.cost += head["paid"] or 0.0


def _last_row(path: Path) -> dict[str, Any]:
    """The last whole line of a file of JSON lines; empty without one."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1]) if lines else {}
