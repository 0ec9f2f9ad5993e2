"""What is left to do: the source as it is now against the rows that are there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunelab.catalog.schema import ROWS
from tunelab.catalog.store import MANIFEST, Folder, Job, Rows, read_job, write_job

Keys = npt.NDArray[np.uint64]
KEY_COLUMNS = ("path", "size", "mtime_ns")
_PIECE = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do.

    Attributes:
        job: as written to ``job.json``.
        rows: the rows of its generation, those that no longer fit taken out.
        todo: rows of the manifest that have no row yet.
        total: files of the source.
        failed: files of the source that have a row with an error.
    """

    job: Job
    rows: Rows
    todo: pa.Table
    total: int
    failed: int


def make_plan(
    folder: Folder, manifest: pa.Table, model: str, revision: str, *, force: bool = False, retry_errors: bool = False
) -> Plan:
    """Compare, write down what is begun, and take out rows of files that changed or are no longer in the source.

    For each file 8 bytes are held beside the manifest: two files of ten million are mixed up with a chance of one in
    400,000.

    Raises:
        CatalogError: the folder is damaged, or cannot be written.
    """
    keys = keys_of(manifest)
    digest = hashlib.sha256(keys.tobytes()).hexdigest()
    before = read_job(folder)
    job = _next_job(before, model, revision, force)
    if job.finished and job.manifest == digest and not retry_errors:
        rows = Rows(folder, job.generation)
        return Plan(job, rows, manifest.slice(0, 0), len(keys), _count_failed(rows))
    if job.generation != (before.generation if before else ""):
        _sweep_generations(folder, {job.previous})
    job = Job(job.model, job.revision, job.generation, False, digest, job.previous, job.forced)
    write_job(folder, job)
    folder.write_table(manifest, MANIFEST)
    rows = Rows(folder, job.generation)
    rows.sweep()
    done, failed, stale = _look_through(rows, keys, retry_errors)
    if stale:
        rows.replace(_fitting(rows, keys, retry_errors))
    todo = manifest.filter(pa.array(~np.isin(keys, done)))
    return Plan(job, rows, todo, len(keys), failed)


def finish(folder: Folder, plan: Plan) -> None:
    """Gather the parts into shards, mark the job as finished, and delete older generations."""
    plan.rows.gather()
    job = plan.job
    if not job.finished or job.previous:
        write_job(folder, Job(job.model, job.revision, job.generation, True, job.manifest))
    _sweep_generations(folder, {job.generation})


def keys_of(table: pa.Table | pa.RecordBatch) -> Keys:
    """A number for each row, from its path, size and time of change."""
    if isinstance(table, pa.Table):
        # Piece by piece: as Python's strings the names of a large catalogue would take gigabytes.
        pieces = [keys_of(batch) for batch in table.to_batches(max_chunksize=_PIECE)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.uint64)
    columns = [table[name].to_pylist() for name in KEY_COLUMNS]
    numbers = (
        int.from_bytes(hashlib.blake2b(f"{path}\0{size}\0{mtime}".encode(), digest_size=8).digest(), "little")
        for path, size, mtime in zip(*columns, strict=True)
    )
    return np.fromiter(numbers, np.uint64, table.num_rows)


def _next_job(before: Job | None, model: str, revision: str, force: bool) -> Job:
    same = before is not None and (before.model, before.revision) == (model, revision)
    if before is not None and same and not (force and (before.finished or not before.forced)):
        return before
    previous = "" if before is None else before.generation if before.finished else before.previous
    number = 1
    if before is not None:
        number += int(before.generation.rpartition("-")[2])
    return Job(model, revision, f"{model}-{revision}-{number}", previous=previous, forced=force)


def _sweep_generations(folder: Folder, kept: set[str]) -> None:
    for name in folder.names(ROWS):
        if name not in kept:
            folder.delete_folder(ROWS, name)


def _look_through(rows: Rows, keys: Keys, retry_errors: bool) -> tuple[Keys, int, bool]:
    """Keys that have a row to keep, how many of those are failures, and whether there are rows not to keep."""
    kept: list[Keys] = []
    failed, stale = 0, False
    for batch, fits in _marked(rows, keys, retry_errors, [*KEY_COLUMNS, "error_code"]):
        kept.append(keys_of(batch)[fits])
        failed += int(np.asarray(pc.is_valid(batch["error_code"]))[fits].sum())
        stale = stale or not fits.all()
    return np.concatenate(kept) if kept else np.zeros(0, np.uint64), failed, stale


def _fitting(rows: Rows, keys: Keys, retry_errors: bool) -> Iterator[pa.RecordBatch]:
    for batch, fits in _marked(rows, keys, retry_errors, None):
        if fits.any():
            yield batch.filter(pa.array(fits))


def _marked(
    rows: Rows, keys: Keys, retry_errors: bool, columns: list[str] | None
) -> Iterable[tuple[pa.RecordBatch, npt.NDArray[np.bool_]]]:
    for batch in rows.batches(columns):
        fits = np.isin(keys_of(batch), keys)
        if retry_errors:
            fits &= ~np.asarray(pc.is_valid(batch["error_code"]))
        yield batch, fits


def _count_failed(rows: Rows) -> int:
    return sum(batch.num_rows - batch["error_code"].null_count for batch in rows.batches(["error_code"], 65_536))
