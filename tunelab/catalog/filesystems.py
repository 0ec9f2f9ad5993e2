"""Names of files as people write them, on a disk or by URI (``s3://bucket/My song.mp3``), to what opens them.

A URI's key is taken as it is written: blanks, ``#``, ``%`` and letters of any script need no escapes, as everywhere
that object stores are used. Where there is no file of that name, its escapes (``%20``) are resolved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

import pyarrow.fs as pafs

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/?]*)/?(.*?)", re.DOTALL)
# Only the options of a filesystem are one; any other question mark belongs to a name.
_OPTIONS = re.compile(
    r"\?((?:region|endpoint_override|scheme|retry_limit_seconds|tls_ca_file_path|tls_verify_certificates|enable_tls"
    r"|force_virtual_addressing|allow_bucket_creation|allow_bucket_deletion|blob_storage_authority"
    r"|dfs_storage_authority|user|replication)=[^?/]*)\Z"
)
OPENING_ERRORS = (OSError, ValueError, NotImplementedError)
"""What pyarrow raises for a URI that it cannot use (its ArrowInvalid is a ValueError)."""


def is_uri(text: str) -> bool:
    """Whether a text names something by scheme: ``s3://...``."""
    return _URI.match(text) is not None


def split_uri(uri: str) -> tuple[str, str, str]:
    """Scheme and host, key, and options with their question mark, each as written."""
    options = _OPTIONS.search(uri)
    at = options.start() if options else len(uri)
    match = _URI.fullmatch(uri[:at])
    if match is None:
        raise ValueError(f"{uri} is no URI")
    return match[1], match[2], uri[at:]


@lru_cache(maxsize=256)
def _filesystem(host: str, options: str) -> tuple[pafs.FileSystem, str]:
    files, path = pafs.FileSystem.from_uri(f"{host}/x{options}")
    return files, path[:-1]


def open_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a URI, one for all of the same host, and the path in there.

    Raises:
        OSError, ValueError, NotImplementedError: there is no such filesystem, or it cannot be reached.
    """
    host, key, options = split_uri(uri)
    files, prefix = _filesystem(host, options)
    return files, prefix + key if key else prefix.rstrip("/") or "/"


def find_file(uri: str) -> tuple[pafs.FileSystem, str]:
    """As :func:`open_uri`, for a file to be read: its escapes resolved if there is none by the name as written."""
    files, path = open_uri(uri)
    if (plain := unquote(path)) != path and not _exists(files, path):
        return files, plain
    return files, path


def _exists(files: pafs.FileSystem, path: str) -> bool:
    return bool(files.get_file_info([path])[0].type != pafs.FileType.NotFound)


def look_at(uris: Sequence[str]) -> list[pafs.FileInfo | None]:
    """What is known of files of one host; ``None`` where one cannot be reached."""
    try:
        opened = [open_uri(uri) for uri in uris]
        infos: list[pafs.FileInfo] = opened[0][0].get_file_info([path for _, path in opened])
    except OPENING_ERRORS:
        # One name that the filesystem does not take must not hide the others.
        return [None] if len(uris) == 1 else [info for uri in uris for info in look_at([uri])]
    return [
        files.get_file_info([unquote(path)])[0] if info.type == pafs.FileType.NotFound and "%" in path else info
        for (files, path), info in zip(opened, infos, strict=True)
    ]
