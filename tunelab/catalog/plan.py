"""What is left to do: the source as it is now against the rows that are there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunelab.catalog.schema import ROWS
from tunelab.catalog.sources import UNREACHED
from tunelab.catalog.stages import STORAGE
from tunelab.catalog.store import MANIFEST, Folder, Job, Rows, read_job, write_job
from tunelab.errors import CatalogError

Keys = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
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
        unreached: files of the source that could not be looked at, and whose rows of before stay.
    """

    job: Job
    rows: Rows
    todo: pa.Table
    total: int
    failed: int
    unreached: int = 0


def make_plan(
    folder: Folder,
    manifest: pa.Table,
    model: str,
    revision: str,
    *,
    force: bool = False,
    retry_errors: bool = False,
    keep_missing: bool = False,
) -> Plan:
    """Compare, write down what is begun, and take out rows of files that changed or are no longer in the source.

    For each file 8 bytes are held beside the manifest: two files of ten million are mixed up with a chance of one in
    400,000.

    Args:
        folder: where the job writes.
        manifest: the source as it is now.
        model, revision: of the bundle.
        force: begin anew.
        retry_errors: do files again that failed; those whose storage failed are done again in any case.
        keep_missing: leave rows of files that are not in the manifest: a part of the source could not be searched.

    Raises:
        CatalogError: the folder is damaged, or cannot be written, or none of its rows is of a file of this source, or
            there are rows and not one file of the source can be looked at, or there are rows of no job.
    """
    keys = keys_of(manifest)
    digest = hashlib.sha256(keys.tobytes()).hexdigest()
    before = read_job(folder)
    job = _next_job(before, model, revision, force)
    if job.finished and job.manifest == digest and not retry_errors:
        rows = Rows(folder, job.generation)
        failed, again, as_hidden = _count_failed(rows)
        if not again:
            hidden = pc.sum(pc.equal(manifest["size"], UNREACHED)).as_py() or 0
            return Plan(job, rows, manifest.slice(0, 0), len(keys), failed, hidden - as_hidden)
    if not force:
        _refuse_to_replace(folder, before, manifest)
    if job.generation != (before.generation if before else ""):
        _sweep_generations(folder, {job.previous})
    # Rows of what could not be searched are compared with the source again as soon as it can be.
    seen = "" if keep_missing else digest
    job = Job(job.model, job.revision, job.generation, False, seen, job.previous, job.forced)
    write_job(folder, job)
    folder.write_table(manifest, MANIFEST)
    rows = Rows(folder, job.generation)
    rows.sweep()
    compare = _Comparison(manifest, keys, retry_errors, keep_missing)
    done, failed, stale, unreached = compare.look_through(rows)
    if stale:
        rows.replace(compare.kept(rows))
    left = ~np.isin(keys, done)
    waiting = manifest if left.all() else manifest.filter(pa.array(left))
    return Plan(job, rows, waiting, len(keys), failed, unreached)


def finish(folder: Folder, plan: Plan) -> None:
    """Gather the parts into shards, mark the job as finished, and delete older generations."""
    plan.rows.gather()
    job = plan.job
    if not job.finished or job.previous:
        write_job(folder, Job(job.model, job.revision, job.generation, True, job.manifest))
    _sweep_generations(folder, {job.generation})


def keys_of(table: pa.Table | pa.RecordBatch, names: Sequence[str] = KEY_COLUMNS) -> Keys:
    """A number for each row, from its path, size and time of change, or from other columns."""
    if isinstance(table, pa.Table):
        # Piece by piece: as Python's strings the names of a large catalogue would take gigabytes.
        pieces = [keys_of(batch, names) for batch in table.to_batches(max_chunksize=_PIECE)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.uint64)
    columns = [table[name].to_pylist() for name in names]
    numbers = (
        int.from_bytes(hashlib.blake2b("\0".join(map(str, row)).encode(), digest_size=8).digest(), "little")
        for row in zip(*columns, strict=True)
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


def _refuse_to_replace(folder: Folder, before: Job | None, manifest: pa.Table) -> None:
    """Where there are rows, some have to be of the source, and of a source that can be looked at.

    Otherwise it is a slip, or a disk that is not there today.
    """
    if before is None:
        # A job writes job.json before its first row: these are somebody else's, or of a job that lost it.
        if folder.names(ROWS):
            raise CatalogError(
                f"the output folder has a folder {ROWS} but no job.json: name another folder, or take --force to "
                "replace it"
            )
        return
    hidden = pc.all(pc.equal(manifest["size"], UNREACHED)).as_py()
    for generation in filter(None, (before.generation, before.previous)):
        some = ours = whole = False
        for batch in Rows(folder, generation).batches(["path", "size", "error_code"], 65_536):
            some = True
            ours = ours or pc.any(pc.is_in(batch["path"], value_set=manifest["path"])).as_py()
            # A store that never says anything of its files may still be read.
            looked_at = pc.and_(pc.is_null(batch["error_code"]), pc.not_equal(batch["size"], UNREACHED))
            whole = whole or pc.any(looked_at).as_py()
            if ours and (whole or not hidden):
                break
        if not some or (hidden and ours and not whole):
            continue  # nothing of worth in it: what might be lost is the one before
        if not ours:
            raise CatalogError(
                "the output folder holds rows of other files, and none of this source's: name another folder, or take "
                "--force to replace them"
            )
        if hidden and whole:
            raise CatalogError(
                "none of the source's files can be looked at, and there are rows of them: is a disk or a store not "
                "there? Take --force to replace them"
            )
        return


def _sweep_generations(folder: Folder, kept: set[str]) -> None:
    for name in folder.names(ROWS):
        if name not in kept:
            folder.delete_folder(ROWS, name)


class _Comparison:
    """The rows that are there against the manifest."""

    def __init__(self, manifest: pa.Table, keys: Keys, retry_errors: bool, keep_missing: bool) -> None:
        # Sorted once: looked up for each batch of rows of a large catalogue.
        self._keys = np.sort(keys)
        self._paths = np.sort(keys_of(manifest, ("path",))) if keep_missing else None
        self._retry_errors = retry_errors
        # Of files that could not be looked at: their paths, and in the same order their own keys.
        hidden = manifest.filter(pc.equal(manifest["size"], UNREACHED))
        places = keys_of(hidden, ("path",))
        order = np.argsort(places)
        self._hidden, self._hidden_keys = places[order], keys_of(hidden)[order]

    def look_through(self, rows: Rows) -> tuple[Keys, int, bool, int]:
        """Keys of files whose rows count, failures among them, whether there are rows not to keep, and the number of
        files that could not be looked at and whose rows count all the same."""
        done, held = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        failed, stale = 0, False
        for batch in rows.batches([*KEY_COLUMNS, "error_code"]):
            fits, held_now, kept = self._judge(batch)
            done.append(keys_of(batch)[fits])
            held.append(held_now)
            failed += int(np.asarray(pc.is_valid(batch["error_code"]))[fits].sum())
            stale = stale or not kept.all()
        return np.concatenate(done + held), failed, stale, np.unique(np.concatenate(held)).size

    def kept(self, rows: Rows) -> Iterator[pa.RecordBatch]:
        """The rows to keep."""
        for batch in rows.batches():
            kept = self._judge(batch)[2]
            if kept.any():
                yield batch.filter(pa.array(kept))

    def _judge(self, batch: pa.RecordBatch) -> tuple[Mask, Keys, Mask]:
        """Which rows are those of files as the manifest has them, keys of files that could not be looked at and whose
        rows, without an error, may be as they were, and which rows to keep."""
        fits: Mask = _among(keys_of(batch), self._keys) & ~_to_retry(batch, self._retry_errors)
        if not self._hidden.size and self._paths is None:
            return fits, np.zeros(0, np.uint64), fits
        paths = keys_of(batch, ("path",))
        held: Mask = _among(paths, self._hidden) & np.asarray(pc.is_null(batch["error_code"])) & ~fits
        kept: Mask = fits | held if self._paths is None else fits | held | ~_among(paths, self._paths)
        return fits, self._hidden_keys[np.searchsorted(self._hidden, paths[held])], kept


def _among(numbers: Keys, ordered: Keys) -> Mask:
    if not ordered.size:
        return np.zeros(numbers.size, np.bool_)
    places = np.minimum(np.searchsorted(ordered, numbers), ordered.size - 1)
    found: Mask = ordered[places] == numbers
    return found


def _to_retry(batch: pa.RecordBatch, errors: bool) -> Mask:
    """Rows whose files are tried again: all that failed, or those that did so through no fault of their own."""
    codes = batch["error_code"]
    return np.asarray(pc.is_valid(codes) if errors else pc.fill_null(pc.equal(codes, STORAGE), False))


def _count_failed(rows: Rows) -> tuple[int, int, int]:
    """Rows with an error, those of them that are tried again by themselves, and rows of files not looked at."""
    failed = again = hidden = 0
    for batch in rows.batches(["size", "error_code"], 65_536):
        failed += batch.num_rows - batch["error_code"].null_count
        again += int(_to_retry(batch, False).sum())
        hidden += pc.sum(pc.equal(batch["size"], UNREACHED)).as_py() or 0
    return failed, again, hidden
