"""Callbacks that call a function at certain optimiser steps of a trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Action = Callable[[Any], object]
"""Is given transformers' `TrainerState`, in every process: each may hold a part of the model."""


def at_start(action: Action) -> Any:
    """A callback that calls `action` before the first step, also of a resumed training."""
    from transformers import TrainerCallback

    class AtStart(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            action(state)

    return AtStart()


def at_steps(action: Action, every: int = 1) -> Any:
    """A callback that calls `action` after every `every` steps and after the last, once the step's
    loss is logged.
    """
    from transformers import TrainerCallback

    class AtSteps(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            step = state.global_step
            if "loss" in (logs or {}) and (step % every == 0 or step == state.max_steps):
                action(state)

    return AtSteps()
