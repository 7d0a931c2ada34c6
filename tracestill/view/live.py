"""How far a run is while it goes on: its stages, its loss curve, and the traces that came last."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tracestill.explore.load import load_run
from tracestill.records.figures import ProblemFigures, SamplingFigures
from tracestill.records.texts import shortened
from tracestill.run.states import RunStates, StageState

_POINTS = 400  # of a curve
_SHOWN = 5  # traces that came last
_TEXT = 600  # characters of each of their ends
_TAIL = 4 << 20  # bytes of a journal in which they are looked for


class Live:
    """What a run's page tells. Asked again, it reads only what has come since."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._states = RunStates(run)
        self._curves = {
            "loss": _Curve(run / "finetune" / "metrics.jsonl", "loss"),
            "heldout_loss": _Curve(run / "finetune" / "heldout.jsonl", "heldout_loss"),
        }
        self._lock = threading.Lock()

    def look(self) -> dict[str, Any]:
        """The state of the run, as JSON.

        Raises:
            ValueError: a file is damaged.

        """
        with self._lock:
            running, found = self._states.running, self._states.look()
            wanted = _wanted(self._run, found)
            return {
                "running": running,
                "complete": all(one.state == "complete" for one in found),
                "stages": [_stage(self._run, one, wanted) for one in found],
                "curves": {name: curve.points() for name, curve in self._curves.items()},
                "latest": list(_latest(self._run / "generate" / "journal.jsonl")),
            }


def _wanted(run: Path, states: Sequence[StageState]) -> dict[str, Any]:
    """How much there is to do, as far as the recipe says it: of `generate` responses, and whether
    that is only the most there can be, of `finetune` epochs.
    """
    recipe = load_run(run).recipe
    figures = states[0].manifest.figures if states[0].manifest is not None else None
    samples = recipe["generate"].get("samples")
    wanted: dict[str, Any] = {}
    if isinstance(figures, ProblemFigures) and samples is not None:
        wanted["responses"] = figures.train * samples["max"]
        wanted["at_most"] = samples["min"] != samples["max"]
    if isinstance(epochs := recipe["finetune"].get("epochs"), int | float):
        wanted["epochs"] = epochs
    return wanted


def _stage(run: Path, state: StageState, wanted: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"stage": state.stage, "state": state.state, "said": state.said}
    if (manifest := state.manifest) is not None:
        said |= {
            "rows_in": manifest.rows_in, "rows_out": manifest.rows_out,
            "seconds": manifest.seconds, "dropped": manifest.dropped, "notes": manifest.notes,
        }  # fmt: skip
        if isinstance(figures := manifest.figures, SamplingFigures):
            said |= {"tokens": figures.tokens, "cost": figures.cost, "failed": figures.error}
        return said
    said |= {
        "responses": state.responses, "failed": state.failed, "tokens": state.tokens,
        "cost": state.cost, "training": dict(state.training),
    }  # fmt: skip
    if state.stage == "generate" and (total := wanted.get("responses")):
        answered = state.responses - state.failed
        said |= {"done": min(answered, total), "total": total, "at_most": wanted["at_most"]}
    if state.stage == "finetune" and "epoch" in state.training and "epochs" in wanted:
        said |= {"done": state.training["epoch"], "total": wanted["epochs"], "at_most": False}
    if state.state in ("running", "unfinished"):
        said["idle"] = _idle(run / state.stage)
    return said


def _idle(folder: Path) -> float | None:
    """Seconds since something was written in a stage's folder."""
    written = [path.stat().st_mtime for path in folder.glob("*") if path.is_file()]
    return max(0.0, time.time() - max(written)) if written else None


class _Curve:
    """A value by step in a file of JSON lines that grows."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._end = 0
        self._points: list[tuple[float, float]] = []

    def points(self) -> list[tuple[float, float]]:
        """Steps and values, at most so many that a plot shows them, the last one among them."""
        self._read()
        every = -(-len(self._points) // _POINTS) or 1
        thinned = self._points[::every]
        last = self._points[-1:]
        return thinned if thinned[-1:] == last else [*thinned, *last]

    def _read(self) -> None:
        size = self._path.stat().st_size if self._path.is_file() else 0
        if size < self._end:  # another training began
            self._end, self._points = 0, []
        if size == self._end:
            return
        with self._path.open("rb") as file:
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._end += len(line)
                row = json.loads(line)
                if isinstance(row.get(self._name), int | float):
                    self._points.append((row["step"], row[self._name]))


def _latest(journal: Path) -> Iterator[dict[str, Any]]:
    """The responses that came last, the newest first, as far as whole lines of them are at the
    journal's end.
    """
    if not journal.is_file():
        return
    with journal.open("rb") as file:
        begin = max(0, journal.stat().st_size - _TAIL)
        file.seek(begin)
        lines = file.read(_TAIL).split(b"\n")
    whole = lines[1 if begin else 0 : -1]  # the first may be cut, the last has no newline yet
    for line in reversed(whole[-_SHOWN:]):
        row = json.loads(line)
        yield {
            "id": row["id"], "sample": row.get("sample"), "finish": row.get("finish"),
            "tokens": row.get("completion_tokens"), "error": row.get("error") or "",
            "reasoning": _ends(row.get("raw_reasoning") or ""), "raw": _ends(row.get("raw") or ""),
        }  # fmt: skip


def _ends(text: str) -> str:
    """A text's two ends."""
    if len(text) <= 2 * _TEXT:
        return text
    left_out = len(text) - 2 * _TEXT
    return f"{text[:_TEXT]}\n… {left_out:,} characters …\n{text[-_TEXT:]}"


def name_of(run: Path) -> str:
    """How a run is called on the page: its folder, and that around it."""
    return shortened("/".join(run.resolve().parts[-2:]), 80)
