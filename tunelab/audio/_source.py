"""The bytes of one file, from memory or from disk, read at any place without loading the whole."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import Self

from tunelab.audio.limits import Deadline, DecodeLimits
from tunelab.errors import AudioTooLarge, EmptyAudio, UnsupportedAudio

AudioSource = bytes | bytearray | memoryview | str | os.PathLike[str]
"""A whole file in memory, or the path of one."""


class Source:
    """Random access to one file. A context manager; closing it closes the file.

    Attributes:
        size: bytes.
        deadline: when decoding this file must be over.
    """

    def __init__(self, source: AudioSource, limits: DecodeLimits) -> None:
        """Open the file.

        Raises:
            EmptyAudio: it has no bytes.
            AudioTooLarge: it has too many.
            UnsupportedAudio: the path names something that is not a regular file, for example a pipe.
            OSError: the path cannot be opened; ``IsADirectoryError`` for a folder.
        """
        self.deadline = Deadline(limits.timeout_s)
        self._data: memoryview | None = None
        self._descriptor = -1
        if isinstance(source, (bytes, bytearray, memoryview)):
            self._data = memoryview(source).cast("B")
            self.size = self._data.nbytes
            limit = limits.max_bytes
        else:
            self._descriptor, self.size = _open_regular(source)
            limit = limits.max_file_bytes
        try:
            if self.size == 0:
                raise EmptyAudio("the file is empty")
            if limit is not None and self.size > limit:
                raise AudioTooLarge(f"the file has {self.size} bytes; at most {limit} are accepted")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if it is one."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``offset``; fewer only at the end of the file."""
        count = min(count, self.size - offset)
        if count <= 0 or offset < 0:
            return b""
        if self._data is not None:
            return bytes(self._data[offset : offset + count])
        # Not os.pread, which Windows lacks; a Source is used by one thread.
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        parts = []
        while count > 0 and (part := os.read(self._descriptor, count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def file(self, offset: int = 0) -> SourceFile:
        """The file from ``offset`` on, as a file object."""
        return SourceFile(self, offset)


class SourceFile(io.RawIOBase):
    """A read-only file object on a :class:`Source` for libraries that want one.

    Once the deadline is over it is at its end, so that a library which reads on and on comes back soon.
    """

    def __init__(self, source: Source, offset: int) -> None:
        self._source = source
        self._offset = offset
        self._position = 0
        self._length = max(0, source.size - offset)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        if self._source.deadline.passed():
            return b""
        left = self._length - self._position
        data = self._source.read(self._offset + self._position, left if size < 0 else min(size, left))
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _open_regular(path: str | os.PathLike[str]) -> tuple[int, int]:
    # O_NONBLOCK: opening a pipe must not wait for somebody to write into it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(status.st_mode):
            raise UnsupportedAudio("not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size
