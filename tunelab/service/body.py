"""Reading an upload: never past the limit, never for longer than allowed, and never onto the disk."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from tunelab.errors import AudioTooLarge, EmptyAudio, TuneLabError
from tunelab.service.errors import MalformedUpload, UnsupportedMediaType, UploadTimeout
from tunelab.settings import Settings

FILE_FIELD = "file"
MULTIPART = "multipart/form-data"
CONTENT_TYPES = ("audio/*", "video/mp4", "video/webm", "application/ogg", "application/octet-stream", MULTIPART)
"""What a request may say its body is. What it really is decides the decoder."""

# Boundaries, part headers and a few small fields around the file.
ENVELOPE_BYTES = 64 * 1024


_CHARSETS = frozenset({"ascii", "iso8859-1", "utf-8"})
"""Of field names and values, by Python's names of them."""


class _InMemoryParser(MultiPartParser):
    # Never reached, because the stream ends first: no customer's file touches the disk.
    spool_max_size = 1 << 62

    def close(self) -> None:
        # Starlette forgets the files of parts that never end.
        for file in self._files_to_close_on_error:
            file.close()


async def read_upload(request: Request, settings: Settings) -> bytes:
    """The bytes of the file in a request.

    Raises:
        UnsupportedMediaType: the Content-Type is none of :data:`CONTENT_TYPES`.
        AudioTooLarge: more than ``max_upload_bytes``; at most one chunk was read past them, or nothing if the
            Content-Length told.
        UploadTimeout: it did not arrive within ``upload_timeout_s``.
        MalformedUpload: multipart that cannot be read, or without exactly one part ``file``.
        EmptyAudio: no bytes.
        ClientDisconnect: the client went away.
    """
    media_type = _media_type(request.headers)
    multipart = media_type == MULTIPART
    limit = settings.max_upload_bytes
    allowed = limit + ENVELOPE_BYTES if multipart else limit
    stream = bounded(request, allowed, _too_large(limit))
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            data = await _read_file_part(request.headers, stream) if multipart else b"".join([c async for c in stream])
    except TimeoutError:
        raise UploadTimeout(f"the body did not arrive within {settings.upload_timeout_s:g} s") from None
    finally:
        await stream.aclose()
    if len(data) > limit:
        raise _too_large(limit)
    if not data:
        raise EmptyAudio("the file is empty")
    return data


def _media_type(headers: Headers) -> str:
    value = headers.get("content-type")
    if value is None:
        return "application/octet-stream"  # RFC 9110, 8.3
    media_type = value.partition(";")[0].strip().lower()
    if media_type in CONTENT_TYPES or media_type.startswith("audio/"):
        return media_type
    raise UnsupportedMediaType(
        "send the file as the body with its own Content-Type (such as audio/mpeg, or application/octet-stream), "
        f"or as multipart/form-data in a field named {FILE_FIELD!r}"
    )


async def bounded(request: Request, allowed: int, too_large: TuneLabError) -> AsyncGenerator[bytes, None]:
    """The chunks of a body.

    Raises:
        TuneLabError: ``too_large``, for more than ``allowed`` bytes: before the first chunk if the length was told,
            else after at most one chunk past them.
        ClientDisconnect: the client went away.
    """
    if (declared_length(request.headers.get("content-length", "")) or 0) > allowed:
        raise too_large
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > allowed:
            raise too_large
        yield chunk


def declared_length(text: str) -> int | None:
    """Bytes that a Content-Length names, at most 20 digits of them; ``None`` where it is no number."""
    if not (text.isascii() and text.isdigit()):
        return None
    # Any number of zeros may stand before it.
    return int(text.lstrip("0")[:20] or "0")


async def _read_file_part(headers: Headers, stream: AsyncGenerator[bytes, None]) -> bytes:
    # Some codecs that Python knows take time that grows with the square of a field, others fail in ways of their own.
    charset = _charset(headers["content-type"])
    if charset not in _CHARSETS:
        raise MalformedUpload(f"the multipart body's charset must be one of {', '.join(sorted(_CHARSETS))}")
    parser = _InMemoryParser(headers, stream, max_files=1, max_fields=1000, max_part_size=ENVELOPE_BYTES)
    try:
        part = (await parser.parse()).get(FILE_FIELD)
        if not isinstance(part, UploadFile):
            raise MalformedUpload(f"the multipart body has no file in a field named {FILE_FIELD!r}")
        return await part.read()
    except MultiPartException as error:
        raise MalformedUpload(f"the multipart body cannot be read: {error.message}") from None
    finally:
        parser.close()


def _charset(content_type: str) -> str:
    """Python's name of the charset that a multipart body names, UTF-8 if none; empty for an unknown one."""
    named = parse_options_header(content_type)[1].get(b"charset", b"utf-8")
    try:
        return codecs.lookup(named.decode("latin-1")).name
    except (LookupError, ValueError):
        return ""


def _too_large(limit: int) -> AudioTooLarge:
    return AudioTooLarge(f"the file is larger than {limit} bytes")
