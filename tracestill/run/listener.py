"""Callbacks that follow a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tracestill.records import Progress
from tracestill.records.layout import Job
from tracestill.run.summary import StageSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Functions that are called when a job begins, as it advances, when it is being stopped, and
    when a stage is complete.
    """

    begin: Callable[[Job], None]
    progress: Callable[[Job, Progress], None]
    stopping: Callable[[Job], None]
    end: Callable[[StageSummary], None]


SILENT = Listener(
    begin=lambda job: None,
    progress=lambda job, progress: None,
    stopping=lambda job: None,
    end=lambda entry: None,
)
