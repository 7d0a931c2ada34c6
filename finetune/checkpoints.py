"""Checkpoints of a training: they count only when they are whole and belong to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracestill.records import write_atomic
from tracestill.records.files import sync_tree

_COMPLETE = "complete.json"
Identity = dict[str, Any]
"""What a training depends on, part by part: two with equal identities end in the same weights."""


def step_of(checkpoint: Path | None) -> int:
    """The number of optimiser steps behind a checkpoint; 0 without one."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def declare_complete(checkpoint: Path, identity: Identity) -> None:
    """Mark a checkpoint whose files are all written, once they are on the disk."""
    sync_tree(checkpoint)
    write_atomic(checkpoint / _COMPLETE, json.dumps(identity).encode())


def whole(folder: Path) -> list[Path]:
    """The checkpoints in `folder` that are whole, in their order."""
    return sorted((path.parent for path in folder.glob(f"checkpoint-*/{_COMPLETE}")), key=step_of)


def last_checkpoint(folder: Path, identity: Identity, total: int) -> Path | None:
    """The newest whole checkpoint in `folder`; those that a kill left half written are removed.

    `total` is the number of steps of the training that asks.

    Raises:
        ValueError: the checkpoint is another training's; the message says what differs and the fix.

    """
    found = whole(folder)
    for path in folder.glob("checkpoint-*"):
        if path not in found:
            shutil.rmtree(path)
    if not found:
        return None
    newest = found[-1]
    now = json.loads(json.dumps(identity))  # tuples become lists, as in the file
    then = json.loads((newest / _COMPLETE).read_text())
    if differences := _differences(then, now):
        raise ValueError(
            f"{folder.parent} holds a training that got to step {step_of(newest)}, and not this "
            f"one: {'; '.join(differences)}. Set that back to resume it, or give `--from finetune` "
            "to drop it and start anew"
        )
    assert step_of(newest) <= total, "the same training has the same steps"
    return newest


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for name in dict.fromkeys([*then, *now]):
        old, new = then.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [
                f"{name}.{key} was {json.dumps(old.get(key))}, is {json.dumps(new.get(key))}"
                for key in dict.fromkeys([*old, *new])
                if old.get(key) != new.get(key)
            ]
        else:
            found.append(f"the {name} differ" if name == "data" else f"the {name} differs")
    return found


def forget(folder: Path) -> None:
    """Remove what the training in `folder` needed only to be resumed."""
    for name in ("checkpoints", "sft", "on_policy"):
        shutil.rmtree(folder / name, ignore_errors=True)
