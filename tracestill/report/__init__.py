"""report.html: what a run did, in one file that opens from disk."""

from tracestill.report.build import build

__all__ = ["build"]
