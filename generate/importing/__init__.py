"""Traces that exist already: rows of public data sets become problems and traces."""

from generate.importing.run import Step, fingerprint, import_traces, layout_of, walk

__all__ = ["Step", "fingerprint", "import_traces", "layout_of", "walk"]
