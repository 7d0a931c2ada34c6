"""Checkpoints of a training that count only when they are whole and belong to it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracestill.records import folder_fingerprint, write_atomic

_COMPLETE = "complete.json"
Identity = dict[str, Any]
"""What a training is, part by part: two with the same end in the same weights."""


def content(model: str) -> str:
    """What a model is, for an identity: a folder by what lies in it, another by its hub id."""
    return folder_fingerprint(Path(model)) if Path(model).is_dir() else model


def step_of(checkpoint: Path | None) -> int:
    """How many optimiser steps were made."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def declare_complete(checkpoint: Path, identity: Identity) -> None:
    """Mark a checkpoint whose files are all written. They are on the disk before the mark is."""
    for path in [*checkpoint.rglob("*"), checkpoint]:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    write_atomic(checkpoint / _COMPLETE, json.dumps(identity).encode())


def last_checkpoint(folder: Path, identity: Identity, total: int) -> Path | None:
    """The newest whole checkpoint in `folder`; those that a kill left half written are removed.

    `total` is the number of steps of the training that asks.

    Raises:
        ValueError: it is of another training. The text says what differs and what to do.

    """
    whole: list[Path] = []
    for path in folder.glob("checkpoint-*"):
        if (path / _COMPLETE).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    newest = max(whole, key=step_of, default=None)
    if newest is None:
        return None
    # As it was written: what JSON has no word for, such as tuples, compares equal.
    now = json.loads(json.dumps(identity))
    then = json.loads((newest / _COMPLETE).read_text())
    if differences := _differences(then, now):
        raise ValueError(
            f"{folder.parent} holds a training that got to step {step_of(newest)}, and not this "
            f"one: {'; '.join(differences)}. Set that back to go on, or give `--from finetune` to "
            "drop it and start anew"
        )
    assert step_of(newest) <= total, "the same training has the same steps"
    return newest


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, which parts differ."""
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
    """Drop the checkpoints of the training in `folder`."""
    for name in ("checkpoints", "on_policy"):
        shutil.rmtree(folder / name, ignore_errors=True)
