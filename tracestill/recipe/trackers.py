"""Where trackers send a training's metrics."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence

WANDB, _HUB = "https://api.wandb.ai", "https://huggingface.co"
_WANDB_LOCAL = ("offline", "dryrun", "disabled")


def destinations(trackers: Sequence[str]) -> Iterator[str]:
    """The URLs that trackers send to, given the environment variables that their clients read."""
    if "wandb" in trackers and os.environ.get("WANDB_MODE", "").lower() not in _WANDB_LOCAL:
        yield os.environ.get("WANDB_BASE_URL") or WANDB
    if "trackio" in trackers:
        if os.environ.get("TRACKIO_SPACE_ID"):
            yield _HUB
        if url := os.environ.get("TRACKIO_SERVER_URL"):
            yield url


def check_trackers(trackers: Sequence[str]) -> None:
    """Check that the trackers' packages are installed.

    Raises:
        ValueError: one is not.

    """
    missing = [name for name in trackers if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"finetune.report_to: {' and '.join(missing)} can't be imported: `pip install "
            f"{' '.join(missing)}` into this environment, or leave it out"
        )
