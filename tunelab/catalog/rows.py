"""Reading what a batch job wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tunelab.catalog.store import Folder, Job, Rows, read_job
from tunelab.errors import CatalogError


def open_job(folder: str | os.PathLike[str]) -> Job:
    """What a job's output folder says of itself.

    Raises:
        CatalogError: it is no batch job's output.
    """
    job = read_job(Folder(folder))
    if job is None:
        raise CatalogError(f"{os.fspath(folder)} is not the output of a batch job")
    return job


def open_rows(
    folder: str | os.PathLike[str], columns: Sequence[str] | None = None, *, failed: bool = False
) -> Iterator[pa.RecordBatch]:
    """Rows of a job's output, some thousand at a time, each exactly once, in no order that means anything.

    While a job with a new bundle runs, these are still the rows of the last one that was finished; of the first job
    they are those that are there so far.

    Args:
        folder: path or URI of the output folder.
        columns: names of :data:`tunelab.catalog.schema.SCHEMA`; ``None``: all.
        failed: whether rows of files that failed are among them.

    Raises:
        CatalogError: it is no batch job's output, it is damaged, or it was replaced while it was read.
    """
    wanted = None if columns is None else list(dict.fromkeys([*columns, "error_code"]))
    rows, names = _current(folder)
    for batch in rows.batches(wanted, names=names):
        kept = batch if failed else batch.filter(pc.is_null(batch["error_code"]))
        if kept.num_rows:
            yield kept if columns is None else kept.select(list(columns))


def _current(folder: str | os.PathLike[str]) -> tuple[Rows, list[str]]:
    """The rows that readers get, and the names of their files."""
    job = open_job(folder)
    while True:
        rows = Rows(Folder(folder), job.generation if job.finished or not job.previous else job.previous)
        names = rows.live()
        # A generation that was replaced meanwhile is deleted, so that nothing was found of it: look again.
        before, job = job, open_job(folder)
        if (job.generation, job.finished) == (before.generation, before.finished):
            return rows, names
