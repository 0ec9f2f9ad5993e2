"""Frame headers of MPEG audio (MP3, MP2, MP1) and AAC in ADTS, and the search for them.

These streams have no table of contents, and the length in a Xing header (if there is one) may be wrong. Walking from
header to header is quick (about 0.2 microseconds a frame) and gives the exact length and the place of every frame.

References:
    ISO/IEC 11172-3 and 13818-3 (MPEG audio), 13818-7 (ADTS).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tunelab.audio._source import Source

_BITRATES = {  # (MPEG-1?, layer) -> kbit/s by index
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG1_RATES = (44100, 48000, 32000)
_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_BUFFER = 1 << 20
_HEADER = 7
_CONFIRM = 4
"""Frames in a row that make a find certain."""


@dataclass(frozen=True, slots=True)
class FrameKind:
    """What all frames of one stream share.

    Attributes:
        codec: ``mp3``, ``mp2``, ``mp1`` or ``aac``.
        sample_rate: in Hz.
        channels: as the first header says; 0 where AAC says it elsewhere.
        samples: a frame has, per channel.
        second: the second header byte with its CRC bit set; the same in every frame.
        third: the bits of the third header byte that are the same in every frame.
    """

    codec: str
    sample_rate: int
    channels: int
    samples: int
    second: int
    third: int


def parse_header(header: bytes) -> FrameKind | None:
    """Read one frame header (7 bytes); ``None`` if it is none."""
    if len(header) < _HEADER or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    second = header[1] | 1
    layer_bits = header[1] >> 1 & 3
    if layer_bits == 0:
        return _parse_adts(header, second)
    version = header[1] >> 3 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    rate_index = header[2] >> 2 & 3
    bitrate_index = header[2] >> 4
    if version == 1 or rate_index == 3 or bitrate_index in (0, 15):
        return None
    layer = 4 - layer_bits
    samples = {1: 384, 2: 1152, 3: 1152 if version == 3 else 576}[layer]
    rate = _MPEG1_RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    channels = 1 if header[3] >> 6 == 3 else 2
    return FrameKind(f"mp{layer}", rate, channels, samples, second, header[2] & 0x0C)


def _parse_adts(header: bytes, second: int) -> FrameKind | None:
    rate_index = header[2] >> 2 & 15
    if header[1] & 0xF0 != 0xF0 or rate_index >= len(_ADTS_RATES) or frame_length(header) < _HEADER:
        return None
    channels = (header[2] & 1) << 2 | header[3] >> 6
    channels = 8 if channels == 7 else channels
    return FrameKind("aac", _ADTS_RATES[rate_index], channels, 1024, second, header[2] & 0xFC)


def frame_length(header: bytes, at: int = 0) -> int:
    """Length of an ADTS frame in bytes, header included."""
    return (header[at + 3] & 3) << 11 | header[at + 4] << 3 | header[at + 5] >> 5


def mpeg_lengths(kind: FrameKind) -> list[int]:
    """Length of an MPEG frame in bytes by its third header byte; 0: this byte does not belong to the stream."""
    layer = int(kind.codec[-1])
    mpeg1 = kind.second >> 3 & 3 == 3
    table = [0] * 256
    for byte in range(256):
        index, padding = byte >> 4, byte >> 1 & 1
        if byte & 0x0C != kind.third or index in (0, 15):
            continue
        bitrate = 1000 * _BITRATES[mpeg1, layer][index - 1]
        if layer == 1:
            table[byte] = (12 * bitrate // kind.sample_rate + padding) * 4
        else:
            table[byte] = kind.samples // 8 * bitrate // kind.sample_rate + padding
    return table


def find_first(source: Source, begin: int, end: int) -> tuple[int, FrameKind] | None:
    """The first place in ``begin..end`` with :data:`_CONFIRM` frames in a row (fewer if the stream ends with them)."""
    at = begin
    while at < end:
        buffer = source.read(at, min(_BUFFER, end - at))
        for match in _SYNC.finditer(buffer):
            source.deadline.check()
            found = at + match.start()
            header = buffer[match.start() : match.start() + _HEADER]
            kind = parse_header(header if len(header) == _HEADER else source.read(found, _HEADER))
            if kind is not None and _confirmed(source, found, kind):
                return found, kind
        at += max(1, len(buffer) - 1)
    return None


def _confirmed(source: Source, at: int, kind: FrameKind) -> bool:
    lengths = mpeg_lengths(kind) if kind.codec != "aac" else None
    for number in range(_CONFIRM):
        header = source.read(at, _HEADER)
        if len(header) < _HEADER or (number > 0 and at >= source.size - 128 and header[:3] == b"TAG"):
            return number > 1
        if header[0] != 0xFF or header[1] | 1 != kind.second:
            return False
        length = lengths[header[2]] if lengths else frame_length(header)
        if length < _HEADER or (not lengths and header[2] & 0xFC != kind.third):
            return False
        at += length
    return True


def scan_frames(source: Source, begin: int, end: int, kind: FrameKind, limit: int) -> tuple[list[int], list[int]]:
    """Offsets and lengths of every whole frame from ``begin`` to ``end``; what is between frames is passed over.

    It stops soon after ``limit`` frames.
    """
    lengths = mpeg_lengths(kind) if kind.codec != "aac" else None
    second, third = kind.second, kind.third
    resync = re.compile(b"\xff[" + re.escape(bytes([second & 0xFE])) + re.escape(bytes([second])) + b"]")
    offsets: list[int] = []
    sizes: list[int] = []
    base = begin
    lost = False
    while base < end - 3 and len(offsets) <= limit:
        source.deadline.check()
        buffer = source.read(base, min(_BUFFER, end - base))
        at, last = 0, len(buffer) - _HEADER
        if last < 0:
            break
        while at <= last:
            length = 0
            if buffer[at] == 0xFF and buffer[at + 1] | 1 == second:
                if lengths:
                    length = lengths[buffer[at + 2]]
                elif buffer[at + 2] & 0xFC == third:
                    length = frame_length(buffer, at)
            if lost and length >= _HEADER and at + length <= last:
                # Tags and junk may hold what looks like a header: one that leads to no other is none.
                follows = at + length
                if buffer[follows] != 0xFF or buffer[follows + 1] | 1 != second:
                    length = 0
            if length >= _HEADER:
                lost = False
                offsets.append(base + at)
                sizes.append(length)
                at += length
                continue
            lost = True
            source.deadline.check()
            match = resync.search(buffer, at + 1)
            if match is None:
                at = max(at + 1, last + 1)
                break
            at = match.start()
        base += at
    while offsets and offsets[-1] + sizes[-1] > end:  # the file breaks off within the last frame
        offsets.pop()
        sizes.pop()
    return offsets, sizes
