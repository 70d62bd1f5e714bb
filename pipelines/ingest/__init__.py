"""Files in, checked columns out; what cannot be used becomes a dead letter."""

from pipelines.ingest.ingest import (
    IngestOptions,
    IngestProgress,
    IngestReport,
    ingest,
    read_directory,
)

__all__ = ["IngestOptions", "IngestProgress", "IngestReport", "ingest", "read_directory"]
