"""MP4 and MOV boxes: whether there is an index and a sound track, whether it is encrypted, and what the index claims.

FFmpeg unrolls the run-length coded tables of an index into memory as the file claims them, up to gigabytes for a file
of a few kilobytes. So they are looked at before FFmpeg is.

Reference:
    ISO/IEC 14496-12, and 23001-7 for encrypted sample entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tunelab.audio._source import Source
from tunelab.audio.limits import DecodeLimits
from tunelab.errors import CorruptAudio, ImplausibleAudio, NoAudioStream, ProtectedAudio, UnsupportedAudio

_ENCRYPTED = {b"enca", b"drms", b"aavd"}
_PROTECTED_BRANDS = {b"aax ", b"aaxc", b"M4P "}
_MAX_BOXES = 100_000
_MAX_PACKETS_PER_S = 1000
"""More than any codec's: Opus has at most 400, video some hundreds."""
_MAX_SAMPLES_PER_BYTE = 64
"""More than any codec of a constant rate reaches."""

Box = tuple[int, int]
"""Where the content of a box begins and ends in the file."""


def check_mp4(source: Source, limits: DecodeLimits, offset: int = 0) -> None:
    """Refuse what cannot be decoded, with the reason.

    Raises:
        ProtectedAudio: the sound is encrypted.
        NoAudioStream: there is no sound track.
        CorruptAudio: there is no index (``moov``): the file breaks off before it.
        ImplausibleAudio: the index claims absurd numbers of packets or samples.
        UnsupportedAudio: the index is compressed, as early QuickTime programs did it.
    """
    if source.read(offset + 4, 4) == b"ftyp" and source.read(offset + 8, 4) in _PROTECTED_BRANDS:
        raise ProtectedAudio("the file is copy-protected (DRM)")
    whole = (offset, source.size)
    movie = next(_boxes(source, whole, b"moov"), None)
    if movie is None:
        raise CorruptAudio("the MP4 file has no index (moov); it may be cut off")
    if next(_boxes(source, movie, b"cmov"), None) is not None:
        raise UnsupportedAudio("a QuickTime file with a compressed index is not supported")
    has_sound = False
    packets = 0
    for media in _nested(source, movie, b"trak", b"mdia"):
        handler = next(_boxes(source, media, b"hdlr"), None)
        is_sound = handler is not None and source.read(handler[0] + 8, 4) == b"soun"
        has_sound = has_sound or is_sound
        for table in _nested(source, media, b"minf", b"stbl"):
            if is_sound:
                _check_sample_entries(source, table)
            packets += _packets(source, table, is_sound=is_sound)
    if not has_sound:
        raise NoAudioStream("the video has no sound track")
    for run in _nested(source, whole, b"moof", b"traf", b"trun"):
        packets += _number(source, run[0] + 4)
    if packets > limits.max_duration_s * _MAX_PACKETS_PER_S:
        raise ImplausibleAudio(f"the MP4 index claims {packets} packets of sound or video")


def _check_sample_entries(source: Source, table: Box) -> None:
    for begin, end in _boxes(source, table, b"stsd"):
        for entry in _boxes(source, (begin + 8, end)):
            if source.read(entry[0] - 4, 4) in _ENCRYPTED:
                raise ProtectedAudio("the sound track is encrypted (DRM)")


def _packets(source: Source, table: Box, *, is_sound: bool) -> int:
    """How many entries FFmpeg's own index of a track will have."""
    for times in _boxes(source, table, b"stts"):
        if is_sound and _number(source, times[0] + 4) == 1 and _number(source, times[0] + 12) == 1:
            # Sound of a constant rate is indexed by chunk, in steps of about a thousand samples.
            _check_chunks(source, table)
            return 0
    return max((_number(source, sizes[0] + 8) for sizes in _boxes(source, table, b"stsz", b"stz2")), default=0)


def _check_chunks(source: Source, table: Box) -> None:
    """Check the number of samples that a track's chunks have, by the claim of its index."""
    counts = (_number(source, box[0] + 4) for box in _boxes(source, table, b"stco", b"co64"))
    chunks = max(counts, default=0)
    samples = 0
    for begin, end in _boxes(source, table, b"stsc"):
        runs = source.read(begin + 8, min(end - begin - 8, 12 * _number(source, begin + 4)))
        starts = [first for first, _, _ in struct.iter_unpack(">III", runs[: len(runs) // 12 * 12])]
        lengths = [length for _, length, _ in struct.iter_unpack(">III", runs[: len(runs) // 12 * 12])]
        for first, length, following in zip(starts, lengths, [*starts[1:], chunks + 1], strict=False):
            samples += length * max(0, min(following, chunks + 1) - first)
    if samples > _MAX_SAMPLES_PER_BYTE * source.size:
        raise ImplausibleAudio(f"the MP4 index claims {samples} samples in a file of {source.size} bytes")


def _number(source: Source, at: int) -> int:
    return int.from_bytes(source.read(at, 4), "big")


def _nested(source: Source, box: Box, *path: bytes) -> Iterator[Box]:
    """All boxes at the end of a path of names."""
    for inner in _boxes(source, box, path[0]):
        if len(path) == 1:
            yield inner
        else:
            yield from _nested(source, inner, *path[1:])


def _boxes(source: Source, box: Box, *names: bytes) -> Iterator[Box]:
    """The boxes directly within another, only those of the given names if there are any."""
    begin, end = box
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
