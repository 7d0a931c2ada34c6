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


def at_steps(action: Action, *every: int) -> Any:
    """A callback that calls `action` after every `every` steps, of several after each of them, and
    after the last, once the step's loss is logged.
    """
    from transformers import TrainerCallback

    class AtSteps(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            step = state.global_step
            due = step == state.max_steps or any(step % one == 0 for one in every)
            if "loss" in (logs or {}) and due:
                action(state)

    return AtSteps()
