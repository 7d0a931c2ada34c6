"""The ground: the records, their identities, how they lie on disk, and what stages tell."""

from tracestill.records.content import file_fingerprint, folder_fingerprint
from tracestill.records.files import write_atomic
from tracestill.records.identity import bucket, digest, problem_id, trace_id
from tracestill.records.journal import Journal
from tracestill.records.manifest import (
    Manifest,
    Shard,
    StageResult,
    as_manifest,
    check_files,
    missing_file,
    read_manifest,
    write_manifest,
)
from tracestill.records.progress import OnProgress, Progress
from tracestill.records.schema import (
    AnyTrace,
    Dispute,
    Doubt,
    Drop,
    Finish,
    Kept,
    Kind,
    Learnt,
    Outcome,
    PassRate,
    Problem,
    Sampling,
    Teacher,
    Trace,
    TraceText,
    Verdict,
    arrow_schema,
    from_row,
    to_row,
)
from tracestill.records.tables import Table, open_table, read_table, table_files, write_table
from tracestill.records.usable import unusable
from tracestill.records.verifier import Verifier

__all__ = [
    "AnyTrace",
    "Dispute",
    "Doubt",
    "Drop",
    "Finish",
    "Journal",
    "Kept",
    "Kind",
    "Learnt",
    "Manifest",
    "OnProgress",
    "Outcome",
    "PassRate",
    "Problem",
    "Progress",
    "Sampling",
    "Shard",
    "StageResult",
    "Table",
    "Teacher",
    "Trace",
    "TraceText",
    "Verdict",
    "Verifier",
    "arrow_schema",
    "as_manifest",
    "bucket",
    "check_files",
    "digest",
    "file_fingerprint",
    "folder_fingerprint",
    "from_row",
    "missing_file",
    "open_table",
    "problem_id",
    "read_manifest",
    "read_table",
    "table_files",
    "to_row",
    "trace_id",
    "unusable",
    "write_atomic",
    "write_manifest",
    "write_table",
]
