"""Rows made up for tests."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from tunelab.catalog.rows import open_rows
from tunelab.catalog.schema import SCHEMA
from tunelab.types import HEADS


def make_rows(names: Iterable[str], *, failed: str = "", size: int = 1, mtime_ns: int = 1) -> pa.Table:
    """One row a name; those in ``failed`` have an error."""
    rng = np.random.default_rng(0)
    rows = []
    for name in names:
        bad = name in failed
        rows.append(
            {
                "path": name,
                "id": None if bad else f"{ord(name[-1]):064x}",
                **{head: None if bad else float(np.float32(rng.random())) for head in HEADS},
                "embedding": None if bad else rng.normal(size=768).astype(np.float16),
                "duration_s": None if bad else 30.0,
                "model": "m",
                "revision": "r",
                "error_code": "audio_empty" if bad else None,
                "error": "the file is empty" if bad else None,
                "size": size,
                "mtime_ns": mtime_ns,
            }
        )
    return pa.Table.from_pylist(rows, SCHEMA)


def paths_in(folder: str | os.PathLike[str]) -> list[str]:
    """Paths of all rows, sorted; repeated where rows are."""
    return sorted(path for batch in open_rows(folder, ["path"], failed=True) for path in batch["path"].to_pylist())
