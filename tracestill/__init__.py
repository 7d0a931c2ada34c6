"""tracestill: distil the reasoning of large teachers into small dense models."""

from tracestill.runs import Run, load_run

__all__ = ["Run", "load_run"]
