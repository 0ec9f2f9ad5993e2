"""A job's output folder: parts that are added, shards that they are gathered into, and which of them count.

    DIR/job.json                      which bundle, which generation of rows is the current one, whether it is finished
    DIR/manifest.parquet              the files of the source as they were when the job began
    DIR/rows/GENERATION/part-N.parquet, shard-*.parquet
    DIR/rows/GENERATION/index.json    {"shards": [names], "absorbed": N}: parts below N are in the shards

A file is written whole before it counts: under another name first on a disk, in one piece in an object store. The
index decides at one instant which files count, so a reader finds each row exactly once whenever a job is killed. What
does not count is swept away when the next run begins.
"""

from __future__ import annotations

import fcntl
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from tunelab.catalog.filesystems import OPENING_ERRORS, is_uri, open_uri
from tunelab.catalog.schema import ROWS, SCHEMA
from tunelab.errors import CatalogError

FORMAT = 1
JOB, MANIFEST, INDEX = "job.json", "manifest.parquet", "index.json"
SHARD_ROWS = 50_000
"""Rows of a shard: about 80 MB with embeddings of 768 numbers."""
_PART = re.compile(r"part-(\d{8})\.parquet")


@dataclass(frozen=True, slots=True)
class Job:
    """What ``job.json`` holds.

    Attributes:
        model: name of the bundle.
        revision: which files it had.
        generation: folder of the rows; another one for another bundle, or where everything was asked for anew.
        finished: whether every file of the manifest has its row.
        manifest: digest of the source's listing that ``finished`` speaks of.
        previous: the generation that readers get until this one is finished; empty: none.
        forced: whether it was begun by ``--force``; the same command goes on with it until it is finished.
    """

    model: str
    revision: str
    generation: str
    finished: bool = False
    manifest: str = ""
    previous: str = ""
    forced: bool = False


class Folder:
    """A folder on a disk or in an object store, through pyarrow's filesystems.

    Args:
        location: a path, or a URI (``s3://bucket/folder``).

    Raises:
        CatalogError: there is no such filesystem, or it cannot be reached.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        text = os.fspath(location)
        try:
            if is_uri(text):
                self._files, self._root = open_uri(text)
            else:
                self._files, self._root = pafs.LocalFileSystem(), os.path.abspath(text)
        except OPENING_ERRORS as error:
            raise CatalogError(f"{text} cannot be opened: {_short(error)}") from error
        self._local = isinstance(self._files, pafs.LocalFileSystem)

    def path(self, *names: str) -> str:
        """A path below the folder, as its filesystem takes it."""
        return posixpath.join(self._root, *names)

    def read(self, *names: str) -> bytes | None:
        """The bytes of a file; ``None``: there is none."""
        try:
            with self._files.open_input_stream(self.path(*names)) as stream:
                data: bytes = stream.read()
                return data
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CatalogError(f"{names[-1]} cannot be read: {_short(error)}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other jobs out, on a disk; an object store has nothing to do that with.

        Raises:
            CatalogError: another job writes here.
        """
        if not self._local:
            yield
            return
        try:
            os.makedirs(self._root, exist_ok=True)
            lock = open(self.path(".lock"), "wb")  # noqa: SIM115
        except OSError as error:
            raise CatalogError(f"the output folder cannot be written: {_short(error)}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CatalogError("another batch job is writing into this folder") from None
            yield

    def write(self, data: bytes, *names: str) -> None:
        """Write a file, whole or not at all."""
        target = self.path(*names)
        try:
            if not self._local:
                with self._files.open_output_stream(target) as stream:
                    stream.write(data)
                return
            os.makedirs(os.path.dirname(target), exist_ok=True)
            partial = target + ".tmp"
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
            # The name, too, has to survive a power cut.
            handle = os.open(os.path.dirname(target), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise CatalogError(f"{names[-1]} cannot be written: {_short(error)}") from error

    def write_table(self, table: pa.Table, *names: str) -> None:
        """Write a Parquet file, whole or not at all."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=10_000)
        self.write(sink.getvalue().to_pybytes(), *names)

    def names(self, *folders: str) -> list[str]:
        """Names of what is in a folder, sorted; nothing if there is no such folder."""
        selector = pafs.FileSelector(self.path(*folders), allow_not_found=True)
        try:
            return sorted(str(info.base_name) for info in self._files.get_file_info(selector))
        except OSError as error:
            raise CatalogError(f"the folder cannot be listed: {_short(error)}") from error

    def delete(self, *names: str) -> None:
        """Delete a file, if it is there."""
        try:
            self._files.delete_file(self.path(*names))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CatalogError(f"{names[-1]} cannot be deleted: {_short(error)}") from error

    def delete_folder(self, *names: str) -> None:
        """Delete a folder and what is in it, if it is there."""
        try:
            self._files.delete_dir(self.path(*names))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CatalogError(f"{names[-1]} cannot be deleted: {_short(error)}") from error

    def parquet(self, *names: str) -> pq.ParquetFile:
        """Open a Parquet file for reading.

        Raises:
            FileNotFoundError: there is none.
            CatalogError: it is not Parquet.
        """
        try:
            return pq.ParquetFile(self.path(*names), filesystem=self._files)
        except FileNotFoundError:
            raise
        except (pa.ArrowInvalid, OSError) as error:
            raise CatalogError(f"{names[-1]} is damaged: {_short(error)}") from error


def read_job(folder: Folder) -> Job | None:
    """What ``job.json`` says; ``None``: there is none.

    Raises:
        CatalogError: it is not one that this version can read.
    """
    data = folder.read(JOB)
    if data is None:
        return None
    try:
        values: dict[str, Any] = json.loads(data)
        if values.pop("format") != FORMAT:
            raise CatalogError("the folder was written by another version of TuneLab; choose another one")
        return Job(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CatalogError(f"{JOB} is damaged: the folder is not a batch job's output") from error


def write_job(folder: Folder, job: Job) -> None:
    """Replace ``job.json``."""
    folder.write((json.dumps({"format": FORMAT, **asdict(job)}, indent=2) + "\n").encode(), JOB)


class Rows:
    """The rows of one generation. One process writes at a time; others may read meanwhile."""

    def __init__(self, folder: Folder, generation: str) -> None:
        self._folder, self._generation = folder, generation
        self._index = self._read_index()
        numbers = [int(match[1]) for name in self._names() if (match := _PART.fullmatch(name))]
        self._next = max([self._absorbed - 1, *numbers]) + 1

    @property
    def _absorbed(self) -> int:
        return int(self._index["absorbed"])

    def _read_index(self) -> dict[str, Any]:
        data = self._folder.read(ROWS, self._generation, INDEX)
        try:
            index: dict[str, Any] = {"shards": [], "absorbed": 0} if data is None else json.loads(data)
            if not all(isinstance(name, str) and "/" not in name for name in index["shards"]):
                raise ValueError
            int(index["absorbed"])
        except (ValueError, TypeError, KeyError) as error:
            raise CatalogError(f"{INDEX} is damaged") from error
        return index

    def _names(self) -> list[str]:
        return self._folder.names(ROWS, self._generation)

    def live(self) -> list[str]:
        """Names of the files that count, oldest first."""
        # In this order: parts that are gathered in between are in the index that is read then.
        names = self._names()
        self._index = self._read_index()
        parts = [name for name in names if (match := _PART.fullmatch(name)) and int(match[1]) >= self._absorbed]
        return [*self._index["shards"], *parts]

    def add(self, table: pa.Table) -> None:
        """Add rows: from when this returns they count, whatever happens."""
        self._folder.write_table(table.cast(SCHEMA), ROWS, self._generation, f"part-{self._next:08d}.parquet")
        self._next += 1

    def batches(
        self, columns: Sequence[str] | None = None, size: int = 4096, names: Iterable[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """All rows, or those of the files of some names, in batches of at most ``size``.

        Raises:
            CatalogError: a file is damaged, or was replaced while it was read: read again.
        """
        for name in self.live() if names is None else names:
            try:
                with self._folder.parquet(ROWS, self._generation, name) as file:
                    yield from file.iter_batches(batch_size=size, columns=list(columns) if columns else None)
            except FileNotFoundError as error:
                raise CatalogError("the rows were replaced while they were read; try again") from error
            except (pa.ArrowInvalid, OSError) as error:
                raise CatalogError(f"{name} is damaged: {_short(error)}") from error

    def replace(self, kept: Iterable[pa.RecordBatch]) -> None:
        """Make ``kept`` all the rows that there are: they become shards, and everything else is deleted.

        ``kept`` may be made from :meth:`batches`. Killed at any moment, either all the old rows count or all the new.
        """
        self._gather([], kept)

    def gather(self) -> None:
        """Gather parts, and shards that are less than half full, into shards."""
        full: list[str] = []
        rest: list[str] = []
        for name in self.live():
            with self._folder.parquet(ROWS, self._generation, name) as file:
                large = not _PART.fullmatch(name) and file.metadata.num_rows >= SHARD_ROWS // 2
            (full if large else rest).append(name)
        if any(_PART.fullmatch(name) for name in rest):
            self._gather(full, self.batches(names=rest))

    def _gather(self, full: list[str], kept: Iterable[pa.RecordBatch]) -> None:
        shards: list[str] = []
        waiting: list[pa.RecordBatch] = []
        count, absorbed = 0, self._next

        def write() -> None:
            name = f"shard-{absorbed:08d}-{len(shards):05d}.parquet"
            self._folder.write_table(pa.Table.from_batches(waiting, SCHEMA), ROWS, self._generation, name)
            shards.append(name)

        for batch in kept:
            waiting.append(batch)
            count += batch.num_rows
            if count >= SHARD_ROWS:
                write()
                waiting, count = [], 0
        if count:
            write()
        # The next gathering must not take the names of these.
        self._index, self._next = {"shards": full + shards, "absorbed": absorbed + 1}, absorbed + 1
        self._folder.write((json.dumps(self._index) + "\n").encode(), ROWS, self._generation, INDEX)
        self.sweep()

    def sweep(self) -> None:
        """Delete what does not count."""
        counts = {*self.live(), INDEX}
        for name in self._names():
            if name not in counts:
                self._folder.delete(ROWS, self._generation, name)


def _short(error: BaseException) -> str:
    """The system's reason without the path, or the first line of the library's."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
