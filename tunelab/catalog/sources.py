"""SOURCE -> the files of a catalogue, with what tells whether one has changed.

SOURCE is a folder (searched through), a glob, one audio file, or a list: text with a path or URI a line, CSV or Parquet
with a column ``path``. Paths in a list are relative to its folder. Everything may be a URI of a filesystem that pyarrow
opens (``s3://``, ``gs://``, ``hdfs://``, ``file://``).
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import io
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from tunelab.audio.files import AUDIO_SUFFIXES
from tunelab.catalog.filesystems import OPENING_ERRORS, find_file, is_uri, look_at, open_uri, split_uri
from tunelab.errors import CatalogError

LIST_SUFFIXES = (".txt", ".csv", ".parquet")
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        # The name's very bytes where they are no UTF-8; `path` then shows them as \xNN.
        pa.field("raw", pa.binary()),
        # UNREACHED where the file could not be looked at.
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
    ]
)
UNREACHED = -1
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
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
        rows = _list_uri(source, unreadable) if is_uri(source) else _list_local(source, unreadable)
        table = _table(rows)
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise CatalogError(f"{source} cannot be read as a list: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise CatalogError(f"{source} cannot be listed: {error.strerror or str(error).splitlines()[0]}") from error
    if table.num_rows == 0:
        raise CatalogError(f"there is no audio file in {source}")
    return table


def local_name(path: str, raw: bytes | None) -> str:
    """The name to open a local file by."""
    return path if raw is None else os.fsdecode(raw)


def shown_name(name: str) -> str:
    r"""A name as rows have it, in text: its bytes that are no UTF-8 as ``\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


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
        size = changed = UNREACHED
    shown = shown_name(path)
    return shown, None if shown == path else os.fsencode(path), size, changed


def _list_local(source: str, unreadable: Callable[[OSError], object] | None) -> Iterator[Row]:
    if os.path.isdir(source):
        paths: Iterable[str] = _walk(source, unreadable)
    elif os.path.isfile(source) and source.lower().endswith(LIST_SUFFIXES):
        with open(source, "rb") as file:
            names = _read_list(file.read(), source)
        yield from _rows_of(names, source)
        return
    elif os.path.isfile(source):
        paths = [source]
    elif glob.has_magic(source):
        paths = sorted(set(_glob(source, unreadable)))
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


def _glob(pattern: str, unreadable: Callable[[OSError], object] | None) -> Iterator[str]:
    """Files that fit a pattern as they do in the module ``glob``, which would keep silent on unreadable folders."""
    fixed = pattern[: _first_magic(pattern)].rpartition("/")[0]
    start = fixed or ("/" if pattern.startswith("/") else "")
    told: set[str] = set()

    def tell(error: OSError) -> None:
        # Patterns with several ** come by more than once; a loop of links is no folder.
        if unreadable and error.errno not in _NOTHING_THERE and error.filename not in told:
            told.add(error.filename)
            unreadable(error)

    yield from _fitting(start, pattern[len(fixed) :].lstrip("/").split("/"), tell)


def _fitting(folder: str, parts: list[str], tell: Callable[[OSError], None]) -> Iterator[str]:
    part, *others = parts
    if not glob.has_magic(part):
        path = os.path.join(folder, part)
        if others:
            yield from _fitting(path, others, tell)
        elif part and _is_there(path, tell) and not os.path.isdir(path):
            yield path
        return
    found = _entries(folder, tell)
    if part == "**":
        yield from _fitting(folder, others or ["*"], tell)
    for name, is_folder in found:
        path = os.path.join(folder, name)
        if part == "**":
            if is_folder and not name.startswith("."):
                yield from _fitting(path, parts, tell)
        elif fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith(".")):
            if others and is_folder:
                yield from _fitting(path, others, tell)
            elif not others and not is_folder:
                yield path


def _is_there(path: str, tell: Callable[[OSError], None]) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        tell(error)
        return False
    return True


def _entries(folder: str, tell: Callable[[OSError], None]) -> list[tuple[str, bool]]:
    """Names in a folder, sorted, and whether each is a folder itself."""
    found = []
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                try:
                    found.append((entry.name, entry.is_dir()))
                except OSError as error:
                    tell(error)
                    found.append((entry.name, False))
    except OSError as error:
        tell(error)
    return sorted(found)


def _list_uri(source: str, unreadable: Callable[[OSError], object] | None) -> Iterator[Row]:
    files, path, info = _look(source)
    host, pattern, options = split_uri(source)
    if isinstance(files, pafs.LocalFileSystem):
        for name, raw, size, changed in _list_local(path, unreadable):
            yield (name if is_uri(name) else host + name), raw, size, changed
        return
    # Named as it is, a folder may have brackets in its name; only what does not exist is a glob.
    is_glob = info.type == pafs.FileType.NotFound and glob.has_magic(pattern)
    if is_glob:
        files, path, info = _look(f"{host}/{posixpath.dirname(pattern[: _first_magic(pattern)])}{options}")
    if info.type == pafs.FileType.NotFound:
        raise CatalogError(f"there is no {source}")
    if info.type == pafs.FileType.Directory:
        start = open_uri(f"{host}/{options}")[1].rstrip("/")
        for item in sorted(files.get_file_info(pafs.FileSelector(path, recursive=True)), key=_path):
            key = _path(item)[len(start) :].lstrip("/")
            hidden = any(part.startswith(".") for part in _path(item)[len(path) :].split("/"))
            if item.type != pafs.FileType.File or hidden:
                continue
            if _matches(key, pattern) if is_glob else item.extension.lower() in _EXTENSIONS:
                yield f"{host}/{key}{options}", None, *_facts(item)
    elif path.lower().endswith(LIST_SUFFIXES):
        with files.open_input_stream(path) as stream:
            names = _read_list(stream.read(), path)
        yield from _rows_of(names, source)
    else:
        yield source, None, *_facts(info)


def _path(info: pafs.FileInfo) -> str:
    return str(info.path)


def _look(uri: str) -> tuple[pafs.FileSystem, str, pafs.FileInfo]:
    try:
        files, path = find_file(uri.rstrip("/") if split_uri(uri)[1] else uri)
        (info,) = files.get_file_info([path])
    except OPENING_ERRORS as error:
        raise CatalogError(f"{uri} cannot be opened: {str(error).splitlines()[0]}") from error
    return files, path, info


_EXTENSIONS = {suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES}


def _first_magic(text: str) -> int:
    return min(index for index in (text.find(char) for char in "*?[") if index >= 0)


def _matches(key: str, pattern: str) -> bool:
    """Whether a key fits a glob; ``*`` stays within a folder, ``**`` is any number of them."""
    parts, wanted = key.split("/"), pattern.split("/")

    def fits(at: int, of: int) -> bool:
        if of == len(wanted):
            return at == len(parts)
        if wanted[of] == "**":
            return any(fits(later, of + 1) for later in range(at, len(parts) + 1))
        return at < len(parts) and fnmatch.fnmatchcase(parts[at], wanted[of]) and fits(at + 1, of + 1)

    return fits(0, 0)


def _facts(info: pafs.FileInfo | None) -> tuple[int, int]:
    if info is None or info.type != pafs.FileType.File:
        return UNREACHED, UNREACHED
    size, changed = (UNREACHED if value is None else int(value) for value in (info.size, info.mtime_ns))
    return size, changed


def _read_list(data: bytes, name: str) -> list[str]:
    if name.lower().endswith(".txt"):
        # As ``find`` writes it: a name may hold anything but a line break, and need not be UTF-8.
        lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).split("\n")
        return [line for line in (line.removesuffix("\r") for line in lines) if line.strip()]
    try:
        if name.lower().endswith(".csv"):
            only = pacsv.ConvertOptions(column_types={"path": pa.string()}, include_columns=["path"])
            table = pacsv.read_csv(io.BytesIO(data), convert_options=only)
        else:
            table = pq.ParquetFile(io.BytesIO(data)).read(["path"])
            table["path"]
    except KeyError as error:
        raise CatalogError(f"{name} has no column 'path'") from error
    return [str(path) for path in table["path"].to_pylist() if path]


def _rows_of(names: list[str], source: str) -> Iterator[Row]:
    """Look at what a list names: URIs of one filesystem some thousand at a time, a path by itself."""
    waiting: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if not is_uri(name) and not os.path.isabs(name):
            name = _beside(source, name)
        if not is_uri(name):
            yield _local_row(name)
            continue
        host, _, options = split_uri(name)
        group = waiting.setdefault((host, options), [])
        group.append(name)
        if len(group) == _CHUNK:
            yield from _look_at_all(waiting.pop((host, options)))
    for group in waiting.values():
        yield from _look_at_all(group)


def _beside(source: str, name: str) -> str:
    """A name in a list is relative to the folder of the list."""
    if not is_uri(source):
        return os.path.join(os.path.dirname(source), name)
    host, key, options = split_uri(source)
    return f"{host}/{posixpath.join(posixpath.dirname(key), name)}{options}"


def _look_at_all(uris: list[str]) -> Iterator[Row]:
    # What cannot be looked at becomes a row with its error.
    for uri, info in zip(uris, look_at(uris), strict=True):
        yield shown_name(uri), None, *_facts(info)
