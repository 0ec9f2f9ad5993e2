"""What a batch job writes: one row a file, in Parquet shards below ``DIR/rows``.

Imports no Ray: whoever reads a job's output (``tunelab similar``, ``tunelab catalog import``, ``tunelab classifier``)
needs none.
"""

from __future__ import annotations

import pyarrow as pa

from tunelab.types import EMBEDDING_SIZE, HEADS

ROWS = "rows"
"""Folder of the shards below a job's output folder."""

SCHEMA = pa.schema(
    [
        # Path or URI as the source named it; the key of a row.
        pa.field("path", pa.string(), nullable=False),
        # SHA-256 of the bytes, 64 hexadecimal digits; null where they could not be read.
        pa.field("id", pa.string()),
        # Scores in 0..1, never rounded; null for a file that failed, or a head that the bundle does not ship.
        *(pa.field(head, pa.float32()) for head in HEADS),
        pa.field("embedding", pa.list_(pa.float16(), EMBEDDING_SIZE)),
        pa.field("duration_s", pa.float32()),
        # Name of the bundle, and which files it had.
        pa.field("model", pa.string(), nullable=False),
        pa.field("revision", pa.string(), nullable=False),
        # Null when fine.
        pa.field("error_code", pa.string()),
        pa.field("error", pa.string()),
        # What the file looked like, so that a later run sees whether it has changed; -1: not known.
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
    ]
)
