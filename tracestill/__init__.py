"""tracestill: distil the reasoning of large teachers into small dense models."""

from tracestill.explore.load import Run, load_run

__all__ = ["Run", "load_run"]
