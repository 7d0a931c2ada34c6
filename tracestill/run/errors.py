"""How a run can end early, and errors as the lines that a user reads."""

from __future__ import annotations

import errno
from pathlib import Path


class StageError(RuntimeError):
    """A stage failed; its text is the line for the user, `log` tells all."""

    def __init__(self, stage: str, message: str, log: Path) -> None:
        super().__init__(message)
        self.stage = stage
        self.log = log


class StoppedError(RuntimeError):
    """The user stopped the run; what was finished is kept."""


def explain(error: BaseException) -> str:
    """An error as the line that a user reads."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" for {error.filename}" if error.filename else ""
        return f"no disk space is left{where}; free some and run again: what was made is kept"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"{error.name} is not installed: `make setup` installs what a machine without a GPU "
            "needs (the extra `cpu`), `make setup-gpu` what one with CUDA needs (`gpu`)"
        )
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):  # Python's own says nothing, a training's what to change
        return text or "no memory is left; use a smaller model, batch or max_model_len"
    text = text or type(error).__name__
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
