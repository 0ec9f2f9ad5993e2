"""SOURCE -> the files of a catalogue, with what tells whether one has changed.

SOURCE is a folder (searched through), a glob, one audio file, or a list: text with a path or URI a line, CSV or Parquet
with a column ``path``. Paths in a list are relative to its folder. Everything may be a URI of a filesystem that pyarrow
opens (``s3://``, ``gs://``, ``hdfs://``, ``file://``).
"""

from __future__ import annotations

import fnmatch
import glob
import io
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from tunelab.audio.files import AUDIO_SUFFIXES
from tunelab.catalog.store import is_uri
from tunelab.errors import CatalogError

LIST_SUFFIXES = (".txt", ".csv", ".parquet")
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        # The name's very bytes where they are no UTF-8; `path` then shows them as \xNN.
        pa.field("raw", pa.binary()),
        # -1 where the file could not be looked at.
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
    ]
)
_CHUNK = 10_000


def list_source(source: str, unreadable: Callable[[OSError], object] | None = None) -> pa.Table:
    """List a source; each path once, in an order that stays the same.

    Args:
        source: see above.
        unreadable: is called with the error for each folder that cannot be searched.

    Returns:
        A table of :data:`MANIFEST_SCHEMA`.

    Raises:
        CatalogError: it names nothing that can be listed, or nothing that holds audio files.
    """
    try:
        rows = _list_uri(source) if is_uri(source) else _list_local(source, unreadable)
        table = _table(rows)
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError) as error:
        raise CatalogError(f"{source} cannot be read as a list: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise CatalogError(f"{source} cannot be listed: {error.strerror or str(error).splitlines()[0]}") from error
    if table.num_rows == 0:
        raise CatalogError(f"there is no audio file in {source}")
    return table


def local_name(path: str, raw: bytes | None) -> str:
    """The name to open a local file by."""
    return path if raw is None else os.fsdecode(raw)


Row = tuple[str, bytes | None, int, int]


def _table(rows: Iterable[Row]) -> pa.Table:
    # Hashes, because the names themselves would take several times as much memory as the table.
    seen: set[int] = set()
    tables: list[pa.Table] = []
    chunk: list[Row] = []

    def flush() -> None:
        columns = zip(*chunk, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, MANIFEST_SCHEMA, strict=True)]
        tables.append(pa.Table.from_arrays(arrays, schema=MANIFEST_SCHEMA))
        chunk.clear()

    for row in rows:
        number = hash(row[0])
        if number in seen:
            continue
        seen.add(number)
        chunk.append(row)
        if len(chunk) == _CHUNK:
            flush()
    if chunk:
        flush()
    return pa.concat_tables(tables) if tables else MANIFEST_SCHEMA.empty_table()


def _local_row(path: str) -> Row:
    try:
        found = os.stat(path)
        size, changed = found.st_size, found.st_mtime_ns
    except (OSError, ValueError):
        size = changed = -1
    try:
        path.encode()
        return path, None, size, changed
    except UnicodeEncodeError:
        raw = os.fsencode(path)
        return raw.decode("utf-8", "backslashreplace"), raw, size, changed


def _list_local(source: str, unreadable: Callable[[OSError], object] | None) -> Iterator[Row]:
    if os.path.isdir(source):
        paths: Iterable[str] = _walk(source, unreadable)
    elif os.path.isfile(source) and source.lower().endswith(LIST_SUFFIXES):
        with open(source, "rb") as file:
            names = _read_list(file.read(), source)
        yield from _rows_of(names, os.path.dirname(source))
        return
    elif os.path.isfile(source):
        paths = [source]
    elif glob.has_magic(source):
        paths = sorted(path for path in glob.iglob(source, recursive=True) if os.path.isfile(path))
    else:
        raise CatalogError(f"there is no {source}")
    for path in paths:
        yield _local_row(path)


def _walk(folder: str, unreadable: Callable[[OSError], object] | None) -> Iterator[str]:
    """Audio files below a folder in an order that stays the same, without holding all their names."""
    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                yield os.path.join(root, name)


def _list_uri(source: str) -> Iterator[Row]:
    fixed = posixpath.dirname(source[: _first_magic(source)]) if glob.has_magic(source) else source
    files, root = _filesystem(fixed)
    # Options of a filesystem (``?region=``) stay out of the names.
    prefix, root = fixed.partition("?")[0].rstrip("/"), root.rstrip("/")
    (info,) = files.get_file_info([root])
    if info.type == pafs.FileType.NotFound:
        raise CatalogError(f"there is no {fixed}")
    if info.type == pafs.FileType.File:
        if not source.lower().endswith(LIST_SUFFIXES):
            yield source, None, *_facts(info)
            return
        with files.open_input_stream(root) as stream:
            names = _read_list(stream.read(), source)
        yield from _rows_of(names, posixpath.dirname(source))
        return
    found = files.get_file_info(pafs.FileSelector(root, recursive=True))
    for item in sorted(found, key=lambda item: str(item.path)):
        uri = prefix + item.path[len(root) :]
        hidden = any(part.startswith(".") for part in PurePosixPath(item.path[len(root) :]).parts)
        if item.type != pafs.FileType.File or hidden:
            continue
        wanted = _matches(uri, source) if glob.has_magic(source) else item.extension.lower() in _EXTENSIONS
        if wanted:
            yield uri, None, *_facts(item)


_EXTENSIONS = {suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES}


def _first_magic(text: str) -> int:
    return min(index for index in (text.find(char) for char in "*?[") if index >= 0)


def _matches(uri: str, pattern: str) -> bool:
    """Whether a URI fits a glob; ``*`` stays within a folder, ``**`` is any number of them."""
    parts, wanted = uri.split("/"), pattern.split("/")

    def fits(at: int, of: int) -> bool:
        if of == len(wanted):
            return at == len(parts)
        if wanted[of] == "**":
            return any(fits(later, of + 1) for later in range(at, len(parts) + 1))
        return at < len(parts) and fnmatch.fnmatchcase(parts[at], wanted[of]) and fits(at + 1, of + 1)

    return fits(0, 0)


def _facts(info: pafs.FileInfo) -> tuple[int, int]:
    if info.type != pafs.FileType.File:
        return -1, -1
    return int(info.size) if info.size is not None else -1, int(info.mtime_ns) if info.mtime_ns is not None else -1


def _filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        found: tuple[pafs.FileSystem, str] = pafs.FileSystem.from_uri(uri)
        return found
    except (pa.ArrowInvalid, NotImplementedError) as error:
        raise CatalogError(f"{uri} cannot be opened: {str(error).splitlines()[0]}") from error


def _read_list(data: bytes, source: str) -> list[str]:
    if source.lower().endswith(".txt"):
        lines = (line.strip() for line in data.decode("utf-8-sig").splitlines())
        return [line for line in lines if line and not line.startswith("#")]
    if source.lower().endswith(".csv"):
        table = pacsv.read_csv(
            io.BytesIO(data), convert_options=pacsv.ConvertOptions(column_types={"path": pa.string()})
        )
    else:
        table = pq.read_table(io.BytesIO(data))
    if "path" not in table.column_names:
        raise CatalogError(f"{source} has no column 'path'")
    return [str(name) for name in table["path"].to_pylist() if name]


def _rows_of(names: list[str], folder: str) -> Iterator[Row]:
    """Look at what a list names: URIs of one filesystem some thousand at a time, a path by itself."""
    waiting: dict[str, list[str]] = {}
    for name in names:
        if not is_uri(name):
            name = name if os.path.isabs(name) else f"{folder}/{name}" if folder else name
        if not is_uri(name):
            yield _local_row(name)
            continue
        host = "/".join(name.split("/")[:3])
        group = waiting.setdefault(host, [])
        group.append(name)
        if len(group) == _CHUNK:
            yield from _look(waiting.pop(host))
    for group in waiting.values():
        yield from _look(group)


def _look(uris: list[str]) -> Iterator[Row]:
    try:
        files, _ = pafs.FileSystem.from_uri(uris[0])
        infos = files.get_file_info([pafs.FileSystem.from_uri(uri)[1] for uri in uris])
    except (pa.ArrowInvalid, NotImplementedError, OSError):
        # Each of them becomes a row with its error.
        yield from ((uri, None, -1, -1) for uri in uris)
        return
    for uri, info in zip(uris, infos, strict=True):
        yield uri, None, *_facts(info)
