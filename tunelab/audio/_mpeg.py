"""MP3, MP2, MP1 and raw AAC (ADTS): find every frame, decode only those that the window needs.

A decoder that seeks must parse all frames up to the target, and a wrong or missing Xing header misleads it about the
length. Here the frames of the window are cut out of the file first, so that decoding costs the same anywhere in a track
of any length, and the result is sample exact.
"""

from __future__ import annotations

import av
import numpy as np

from tunelab.audio._ffmpeg import frame_to_mono
from tunelab.audio._frames import find_first, scan_frames
from tunelab.audio._reader import CHUNK_VALUES, allow_broken_floats, join
from tunelab.audio._source import Source
from tunelab.audio.limits import DecodeLimits
from tunelab.errors import AudioTooLong, CorruptAudio
from tunelab.types import FloatArray

_PREROLL_FRAMES = 30
"""Frames decoded before the window: an MP3 frame takes bits from earlier ones, and all overlap their neighbours."""
_DECODER_DELAY = {"mp3": 529, "mp2": 481, "mp1": 481, "aac": 0}
"""Samples by which the sound is late after decoding; an MP3 encoder's own delay is in the LAME tag."""
_LAVC_NAMES = {"aac": "aac", "mp3": "mp3float", "mp2": "mp2float", "mp1": "mp1float"}
_PROBE_FRAMES = 16
_MAX_SPAN = 1 << 24
"""Bytes that are read at once; frames with more junk between them are read one by one."""
_MAX_CHANNELS = 8
"""That the header of a frame can tell of."""


class FrameReader:
    """A :class:`~tunelab.audio._reader.Reader` on a stream of MPEG audio or ADTS frames.

    Args:
        source: the file.
        limits: what is refused.
        name: ``mpeg`` or ``aac``, for messages.
        begin: where to look for the first frame, in bytes.
        end: where the stream ends at the latest, in bytes.
    """

    def __init__(self, source: Source, limits: DecodeLimits, name: str, begin: int, end: int | None = None) -> None:
        end = source.size if end is None else end
        first = find_first(source, begin, end)
        if first is None:
            raise CorruptAudio(f"no {'AAC' if name == 'aac' else 'MPEG audio'} frames were found")
        at, kind = first
        self._source = source
        self._kind = kind
        limits.check_stream(kind.sample_rate, max(1, kind.channels))
        # Far beyond the limit nobody needs to know by how much.
        limit = int(4 * limits.max_duration_s * kind.sample_rate / kind.samples)
        self._offsets, self._sizes = scan_frames(source, at, end, kind, limit)
        if len(self._offsets) > limit:
            raise AudioTooLong(f"the track is longer than the {limits.max_duration_s:g} s that are accepted")
        if not self._offsets:
            raise CorruptAudio("the file breaks off within its first frame")
        self.sample_rate = kind.sample_rate
        self._samples = kind.samples
        skip, padding = _DECODER_DELAY[kind.codec], 0
        if kind.codec == "mp3":
            is_info, delay, padding = _read_info(source.read(self._offsets[0], self._sizes[0]))
            skip += delay
            if is_info and len(self._offsets) > 1:
                del self._offsets[0], self._sizes[0]
        elif kind.codec == "aac":
            self._probe(limits)
        self._skip = skip
        self._length = max(0, len(self._offsets) * self._samples - skip - max(0, padding - _DECODER_DELAY[kind.codec]))
        self.frames: int | None = self._length

    def read(self, start: int, count: int) -> FloatArray:
        count = min(count, self._length - start)
        chunk = 2 * CHUNK_VALUES
        parts = []
        for at in range(start, start + count, chunk):
            self._source.deadline.check()
            wanted = min(chunk, start + count - at)
            part = self._decode(at + self._skip, wanted)
            parts.append(part)
            if part.size < wanted:
                break
        return join(parts)

    def count(self, limit: int) -> int:
        return self._length

    def close(self) -> None:
        pass

    def _decode(self, begin: int, count: int) -> FloatArray:
        """Samples ``begin`` to ``begin + count`` of what the frames decode to, before any delay is cut off."""
        first = max(0, begin // self._samples - _PREROLL_FRAMES)
        last = min(len(self._offsets), -(-(begin + count) // self._samples))
        mono, position = self._lavc(self._cut(first, last)), first * self._samples
        return mono[begin - position : begin - position + count]

    def _cut(self, first: int, last: int) -> list[bytes]:
        offsets, sizes = self._offsets[first:last], self._sizes[first:last]
        begin, span = offsets[0], offsets[-1] + sizes[-1] - offsets[0]
        if span > _MAX_SPAN:
            return [self._source.read(at, size) for at, size in zip(offsets, sizes, strict=True)]
        raw = self._source.read(begin, span)
        return [raw[at - begin : at - begin + size] for at, size in zip(offsets, sizes, strict=True)]

    def _lavc(self, frames: list[bytes]) -> FloatArray:
        codec = av.CodecContext.create(_LAVC_NAMES[self._kind.codec], "r")
        codec.thread_count = 1
        parts = []
        with allow_broken_floats():
            for data in frames:
                self._source.deadline.check()
                parts.append(self._lavc_frame(codec, data))
        return join(parts)

    def _lavc_frame(self, codec: av.AudioCodecContext, data: bytes) -> FloatArray:
        """One frame; silence in place of a broken one, so that the others stay where they are."""
        mono = np.zeros(self._samples, dtype=np.float32)
        try:
            decoded = [frame for frame in codec.decode(av.Packet(data)) if isinstance(frame, av.AudioFrame)]
        except av.FFmpegError:
            return mono
        if not decoded or decoded[0].layout.nb_channels > _MAX_CHANNELS:
            return mono
        if decoded[0].samples == self._samples and decoded[0].sample_rate == self.sample_rate:
            mono = frame_to_mono(decoded[0])
        return mono

    def _probe(self, limits: DecodeLimits) -> None:
        """Decode the first frames: spectral band replication (HE-AAC) doubles what the ADTS header says."""
        codec = av.CodecContext.create("aac", "r")
        for data in self._cut(0, min(_PROBE_FRAMES, len(self._offsets))):
            try:
                for frame in codec.decode(av.Packet(data)):
                    limits.check_stream(frame.sample_rate, frame.layout.nb_channels)
                    self.sample_rate, self._samples = frame.sample_rate, frame.samples
            except av.FFmpegError:
                continue


def _read_info(frame: bytes) -> tuple[bool, int, int]:
    """Whether an MP3 frame is a Xing, Info or VBRI header, and its encoder delay and padding in samples."""
    if frame[36:40] == b"VBRI":
        return True, 0, 0
    side_info = _side_info_bytes(frame)
    at = next((at for at in (4 + side_info, 6 + side_info) if frame[at : at + 4] in (b"Xing", b"Info")), None)
    if at is None:
        return False, 0, 0
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    lame = at + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    gap = frame[lame + 21 : lame + 24]
    if len(gap) < 3 or frame[lame : lame + 1] != b"L":  # LAME, Lavf, Lavc, L3.99: the encoders that fill this in
        return True, 0, 0
    return True, gap[0] << 4 | gap[1] >> 4, (gap[1] & 15) << 8 | gap[2]


def _side_info_bytes(frame: bytes) -> int:
    mpeg1, mono = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3
    return (17 if mono else 32) if mpeg1 else (9 if mono else 17)
