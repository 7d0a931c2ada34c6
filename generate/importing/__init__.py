"""Import existing traces: rows of public data sets become problems and traces."""

from generate.importing.walk import ImportedRow, fingerprint, format_of, import_traces, walk

__all__ = ["ImportedRow", "fingerprint", "format_of", "import_traces", "walk"]
