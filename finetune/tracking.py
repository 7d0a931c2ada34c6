"""Where a training's metrics go beside the run's own files: TensorBoard, W&B, Trackio."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_WANDB, _HUB = "https://api.wandb.ai", "https://huggingface.co"
_WANDB_LOCAL = ("offline", "dryrun", "disabled")


def destinations(trackers: Sequence[str]) -> Iterator[str]:
    """The URLs that the trackers send to, by the environment that their clients read."""
    if "wandb" in trackers and os.environ.get("WANDB_MODE", "").lower() not in _WANDB_LOCAL:
        yield os.environ.get("WANDB_BASE_URL") or _WANDB
    if "trackio" in trackers:
        if os.environ.get("TRACKIO_SPACE_ID"):
            yield _HUB
        if url := os.environ.get("TRACKIO_SERVER_URL"):
            yield url


def check_trackers(trackers: Sequence[str]) -> None:
    """Refuse trackers whose package is missing.

    Raises:
        ValueError: it is.

    """
    missing = [name for name in trackers if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"finetune.report_to: {' and '.join(missing)} can't be imported: `pip install "
            f"{' '.join(missing)}` into this environment, or leave it out"
        )


def options(trackers: Sequence[str], project: str, run: str) -> dict[str, Any]:
    """What a trainer's arguments say of the trackers. TensorBoard is not among them: see
    `add_tensorboard`.
    """
    others = [name for name in trackers if name != "tensorboard"]
    return {"report_to": others or "none", "project": project, "run_name": run}


def settle_wandb(project: str, folder: Path) -> None:
    """Have W&B's client write below `folder`, send nowhere but where the recipe was checked for,
    and nothing but metrics and settings: no console output, no code, no patch of uncommitted
    changes. What the user has set stays.
    """
    for name, value in {
        "WANDB_PROJECT": project,
        "WANDB_DIR": str(folder.resolve()),
        # Its settings files could name another server.
        "WANDB_BASE_URL": _WANDB,
        "WANDB_CONSOLE": "off",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_DISABLE_GIT": "true",
    }.items():
        os.environ.setdefault(name, value)


def finish_wandb() -> None:
    """End W&B's run, so that the next trainer begins one of its own."""
    importlib.import_module("wandb").finish()


def add_tensorboard(trainer: Any, folder: Path, resumed: int) -> None:
    """Have the trainer write TensorBoard's events into `folder`. A training that goes on from step
    `resumed` hides what was written of later steps; one that begins, at 0, removes what was there.
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
