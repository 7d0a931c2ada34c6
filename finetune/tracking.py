"""The trackers that get metrics beside the run's own files: TensorBoard, W&B, Trackio."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracestill.recipe.trackers import WANDB


def options(trackers: Sequence[str], project: str, run: str) -> dict[str, Any]:
    """The training arguments for trackers, TensorBoard aside: see `add_tensorboard`."""
    others = [name for name in trackers if name != "tensorboard"]
    return {"report_to": others or "none", "project": project, "run_name": run}


def settle_wandb(project: str, folder: Path) -> None:
    """Make W&B's client write below `folder`, and send only to the server that the recipe was
    checked for, and only metrics and settings: no console output, no code, no uncommitted changes.
    Variables that the user has set stay.
    """
    for name, value in {
        "WANDB_PROJECT": project,
        "WANDB_DIR": str(folder.resolve()),
        # Its settings files could name another server.
        "WANDB_BASE_URL": WANDB,
        "WANDB_CONSOLE": "off",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_DISABLE_GIT": "true",
    }.items():
        os.environ.setdefault(name, value)


def finish_wandb() -> None:
    """End W&B's run, so that the next trainer starts one of its own."""
    importlib.import_module("wandb").finish()


def add_tensorboard(trainer: Any, folder: Path, resumed: int) -> None:
    """Make the trainer write TensorBoard's events into `folder`. A training resumed from step
    `resumed` hides events of later steps; one that starts, at 0, removes all that is there.
    """
    if not trainer.is_world_process_zero():
        return
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    if not resumed:
        shutil.rmtree(folder, ignore_errors=True)
    purged = resumed + 1 if resumed else None
    writer = SummaryWriter(log_dir=str(folder), purge_step=purged)
    trainer.add_callback(TensorBoardCallback(writer))
