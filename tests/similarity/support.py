"""Rows and output folders as a batch job writes them, from plain arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunelab.catalog.schema import SCHEMA
from tunelab.catalog.store import Folder, Job, Rows, write_job
from tunelab.types import HEADS


def content_id_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def embeddings_of(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float16]]:
    return np.random.default_rng(seed).normal(size=(count, 768)).astype(np.float16)


def rows_of(names: Sequence[str], vectors: Any = None, **columns: Any) -> pa.RecordBatch:
    """Rows of files ``/music/NAME.mp3`` whose content is told by their names; columns may be overridden.

    A column is given as a list, or as one value for all rows.
    """
    count = len(names)
    rng = np.random.default_rng(count)
    values: dict[str, Any] = {
        "path": [f"/music/{name}.mp3" for name in names],
        "id": [content_id_of(name) for name in names],
        **{head: rng.random(count).astype(np.float32).tolist() for head in HEADS},
        "embedding": embeddings_of(count) if vectors is None else vectors,
        "duration_s": 123.5,
        "model": "fake-v1",
        "revision": "1",
        "error_code": None,
        "error": None,
        "size": 1000,
        "mtime_ns": 1,
        **columns,
    }
    arrays = []
    for field in SCHEMA:
        column = values[field.name]
        listed = column if isinstance(column, list | np.ndarray) else [column] * count
        listed = (
            [None if item is None else np.asarray(item) for item in listed] if field.name == "embedding" else listed
        )
        arrays.append(pa.array(listed, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def failed_rows(names: Sequence[str]) -> pa.RecordBatch:
    """Rows of files that could not be analysed."""
    nothing = dict.fromkeys(("embedding", "duration_s", *HEADS))
    return rows_of(names, **nothing, error_code="audio_corrupt", error="the file ends in the middle")


def write_output(folder: Path, *batches: pa.RecordBatch) -> Path:
    """A finished job's output folder with these rows."""
    model, revision = (batches[0][name][0].as_py() for name in ("model", "revision"))
    opened = Folder(folder)
    write_job(opened, Job(model, revision, "g1", finished=True))
    rows = Rows(opened, "g1")
    for batch in batches:
        rows.add(pa.Table.from_batches([batch]))
    return folder
