"""Files that differ in their bytes but not in their sound, so that the service cannot answer from its store."""

from __future__ import annotations

import struct


def unique_parts(data: bytes, text: str) -> list[bytes]:
    """The parts of a file that nobody has seen yet; joined, they decode to exactly what ``data`` decodes to.

    Args:
        data: any audio file.
        text: ASCII that makes it new.

    Returns:
        ``data`` itself, not copied, after an ID3v2.4 tag; or, if it is MP4, before a box of the type ``free``.

    References:
        https://id3.org/id3v2.4.0-structure, ISO/IEC 14496-12
    """
    if data[4:8] == b"ftyp":
        content = text.encode("ascii")
        return [data, struct.pack(">I4s", 8 + len(content), b"free") + content]
    return [_id3_tag(text), data]


def _id3_tag(text: str) -> bytes:
    body = b"\x03tunelab-bench\0" + text.encode("ascii")
    frame = b"TXXX" + _synchsafe(len(body)) + b"\0\0" + body
    return b"ID3\x04\0\0" + _synchsafe(len(frame)) + frame


def _synchsafe(number: int) -> bytes:
    """Seven bits a byte, so that no byte looks like the start of an MPEG frame."""
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))
