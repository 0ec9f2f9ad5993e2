"""A batch job: the files that are left to do, through Ray Data, into rows.

Ray decodes and encodes; this process lists, commits and counts. Rows are small (2 KB), so one writer keeps up with any
cluster, and nothing is committed twice. Files go through in waves of some thousand, each a run of Ray Data, so that
its books do not grow with the catalogue.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from tunelab.audio.decode import DecodeLimits
from tunelab.catalog.cluster import Cluster
from tunelab.catalog.plan import finish, make_plan
from tunelab.catalog.schema import SCHEMA
from tunelab.catalog.sources import list_source
from tunelab.catalog.store import Folder, Rows
from tunelab.encoder import EngineName, find_bundle
from tunelab.errors import CatalogError
from tunelab.heads import load_heads

log = logging.getLogger(__name__)

_COMMIT_ROWS = 2000
_WAVE = 16_384


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a job is asked for.

    Attributes:
        source: see :mod:`tunelab.catalog.sources`.
        out: output folder, path or URI.
        bundle: name or path of the bundle.
        engine, precision: see :func:`tunelab.encoder.load_engine`.
        workers: encoders; ``None``: as many as the cluster has room for.
        decoders: ``None``: enough to feed the encoders from a disk; more of them bridge a slow network.
        threads: CPU threads of one encoder; ``None``: the cores of this machine shared out among the workers, or 2 on
            a cluster.
        address: of a Ray cluster; ``None``: a Ray of its own on this machine.
        force: compute everything anew.
        retry_errors: try files again that failed.
        commit_s: rows that came are committed after so many seconds: what a killed job does twice at most.
        limits: what the decoder refuses.
    """

    source: str
    out: str
    bundle: str
    engine: EngineName = "auto"
    precision: str = "auto"
    workers: int | None = None
    decoders: int | None = None
    threads: int | None = None
    address: str | None = None
    force: bool = False
    retry_errors: bool = False
    commit_s: float = 5.0
    limits: DecodeLimits = field(default_factory=DecodeLimits)


@dataclass(slots=True)
class Progress:
    """How far a job is.

    Attributes:
        total: files of the source.
        before: files that had their row when this run began.
        done: files of this run so far.
        failed: files of the whole source that failed, so far.
        unsearched: folders of the source that could not be searched.
        unreached: files of the source that could not be looked at, and whose rows of before stay.
        errors: code -> files of this run.
        seconds: since the run began.
        steady_s: seconds in which rows came, from the first of a wave to its last.
        steady_files: rows that came in them, the first ones of a wave not counted.
    """

    total: int
    before: int
    done: int = 0
    failed: int = 0
    unsearched: int = 0
    unreached: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    steady_s: float = 0.0
    steady_files: int = 0

    @property
    def files_per_s(self) -> float:
        """Throughput without the time that workers take to start."""
        return self.steady_files / self.steady_s if self.steady_s > 0 else 0.0


def run_job(
    options: JobOptions,
    report: Callable[[Progress], None] = lambda progress: None,
    unreadable: Callable[[OSError], object] | None = None,
) -> Progress:
    """Run a job, or go on with it; nothing is done where everything is done.

    Args:
        options: what is wanted.
        report: is called whenever rows have come.
        unreadable: is called for each folder that cannot be searched. Rows of files that were found there before stay.

    Raises:
        CatalogError: the source or the output folder cannot be used, or workers die again and again.
        BundleError: there is no such bundle, or it is broken.
        EngineError: the engine cannot start.
        KeyboardInterrupt: what had come is committed.
    """
    began = time.monotonic()
    bundle = find_bundle(options.bundle)
    load_heads(bundle)  # a bundle without them is refused before a cluster is started
    unsearched: list[OSError] = []
    manifest = list_source(options.source, unsearched.append)
    if unreadable:
        for error in unsearched:
            unreadable(error)
    folder = Folder(options.out)
    with folder.locked():
        plan = make_plan(
            folder,
            manifest,
            bundle.name,
            bundle.revision,
            force=options.force,
            retry_errors=options.retry_errors,
            keep_missing=bool(unsearched),
        )
        progress = Progress(plan.total, plan.total - plan.todo.num_rows, failed=plan.failed)
        progress.unsearched, progress.unreached = len(unsearched), plan.unreached
        progress.seconds = time.monotonic() - began
        report(progress)
        if plan.todo.num_rows:
            del manifest
            with Cluster(options, bundle) as cluster:
                _Run(cluster, plan.rows, progress, report, began, options.commit_s).all(plan.todo)
            if progress.before + progress.done != plan.total:
                raise CatalogError("some files have no row: run the job again")
        finish(folder, plan)
        progress.seconds = time.monotonic() - began
        return progress


class _Run:
    """One process's work on what is left."""

    def __init__(
        self,
        cluster: Cluster,
        rows: Rows,
        progress: Progress,
        report: Callable[[Progress], None],
        began: float,
        commit_s: float,
    ) -> None:
        self._cluster, self._rows, self._progress, self._report = cluster, rows, progress, report
        self._began, self._commit_s = began, commit_s
        self._waiting: list[pa.Table] = []
        self._committed = began

    def all(self, todo: pa.Table) -> None:
        size = max(_WAVE, 1024 * self._cluster.workers)
        for start in range(0, todo.num_rows, size):
            try:
                self._wave(todo.slice(start, size))
            finally:
                self._commit()

    def _wave(self, files: pa.Table) -> None:
        last: float | None = None
        for table in self._cluster.run(files):
            self._take(table)
            now = time.monotonic()
            if last is not None:
                self._progress.steady_files += table.num_rows
                self._progress.steady_s += now - last
            last = now

    def _take(self, table: pa.Table) -> None:
        self._waiting.append(table.cast(SCHEMA))
        progress = self._progress
        progress.done += table.num_rows
        codes = [code for code in table["error_code"].to_pylist() if code is not None]
        progress.errors.update(codes)
        progress.failed += len(codes)
        now = time.monotonic()
        progress.seconds = now - self._began
        if (
            sum(waiting.num_rows for waiting in self._waiting) >= _COMMIT_ROWS
            or now - self._committed >= self._commit_s
        ):
            self._commit()
        self._report(progress)

    def _commit(self) -> None:
        if self._waiting:
            self._rows.add(pa.concat_tables(self._waiting))
            self._waiting.clear()
        self._committed = time.monotonic()
