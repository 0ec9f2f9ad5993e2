"""MP4 and MOV boxes: whether there is an index and a sound track, and whether it is encrypted.

Reference:
    ISO/IEC 14496-12, and 23001-7 for encrypted sample entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tunelab.audio._source import Source
from tunelab.errors import CorruptAudio, NoAudioStream, ProtectedAudio

_ENCRYPTED = {b"enca", b"drms", b"aavd"}
_PROTECTED_BRANDS = {b"aax ", b"aaxc", b"M4P "}
_MAX_BOXES = 100_000


def check_mp4(source: Source, offset: int = 0) -> None:
    """Refuse what cannot be decoded, with the reason.

    Raises:
        ProtectedAudio: the sound is encrypted.
        NoAudioStream: there is no sound track.
        CorruptAudio: there is no index (``moov``): the file breaks off before it.
    """
    if source.read(offset + 4, 4) == b"ftyp" and source.read(offset + 8, 4) in _PROTECTED_BRANDS:
        raise ProtectedAudio("the file is copy-protected (DRM)")
    movie = next(_boxes(source, offset, source.size, (b"moov",)), None)
    if movie is None:
        raise CorruptAudio("the MP4 file has no index (moov); it may be cut off")
    if next(_boxes(source, *movie, (b"cmov",)), None) is not None:
        return  # a compressed index; FFmpeg unpacks it
    has_sound = False
    for track in _boxes(source, *movie, (b"trak",)):
        for media in _boxes(source, *track, (b"mdia",)):
            handler = next(_boxes(source, *media, (b"hdlr",)), None)
            if handler is None or source.read(handler[0] + 8, 4) != b"soun":
                continue
            has_sound = True
            _check_sample_entries(source, media)
    if not has_sound:
        raise NoAudioStream("the video has no sound track")


def _check_sample_entries(source: Source, media: tuple[int, int]) -> None:
    regions = [media]
    for name in (b"minf", b"stbl", b"stsd"):
        regions = [box for region in regions for box in _boxes(source, *region, (name,))]
    for begin, end in regions:
        for entry in _boxes(source, begin + 8, end, ()):
            if source.read(entry[0] - 4, 4) in _ENCRYPTED:
                raise ProtectedAudio("the sound track is encrypted (DRM)")


def _boxes(source: Source, begin: int, end: int, names: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Content ranges of the boxes between two places, only those of the given names if there are any."""
    for _ in range(_MAX_BOXES):
        source.deadline.check()
        header = source.read(begin, 16)
        if begin + 8 > end or len(header) < 8:
            return
        size, name = struct.unpack(">I4s", header[:8])
        content = begin + 8
        if size == 1 and len(header) == 16:
            size, content = struct.unpack(">Q", header[8:])[0], begin + 16
        elif size == 0:
            size = end - begin
        if size < content - begin:
            return
        if not names or name in names:
            yield content, min(begin + size, end)
        begin += size
