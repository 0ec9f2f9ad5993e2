"""WAV (RIFF, RIFX, RF64, BW64): the chunks are read here, because headers lie and libsndfile believes some of them.

Lengths come from the bytes that are there. Uncompressed samples are converted by libsndfile, one window at a time.

References:
    EBU Tech 3306 (RF64), Microsoft "Multiple Channel Audio Data and WAVE Files" (WAVE_FORMAT_EXTENSIBLE).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import soundfile

from tunelab.audio._libsndfile import SoundFileReader
from tunelab.audio._mpeg import FrameReader
from tunelab.audio._reader import CHUNK_VALUES, Reader, join, mix_down
from tunelab.audio._source import Source
from tunelab.audio.limits import DecodeLimits
from tunelab.errors import CorruptAudio, EmptyAudio, ImplausibleAudio, UnsupportedAudio
from tunelab.types import FloatArray

_PCM = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
_FLOAT = {4: "FLOAT", 8: "DOUBLE"}
_LOGARITHMIC = {6: "ALAW", 7: "ULAW"}
_LIBSNDFILE_CODECS = {0x02, 0x11, 0x31, 0x40}
_MPEG_CODECS = {0x50, 0x55}
_EXTENSIBLE = 0xFFFE
_MAX_CHUNKS = 10_000
_KNOWN_CHUNKS = {b"fmt ", b"data", b"LIST", b"fact", b"bext", b"cue ", b"id3 ", b"ID3 ", b"PEAK", b"JUNK", b"smpl"}


@dataclass(frozen=True, slots=True)
class _Format:
    codec: int
    channels: int
    sample_rate: int
    block_bytes: int
    bits: int


def open_wav(source: Source, limits: DecodeLimits, offset: int = 0) -> Reader:
    """Open a WAV file.

    Raises:
        CorruptAudio: a chunk that is needed is missing or broken.
        EmptyAudio: the data chunk is empty.
        ImplausibleAudio: the header claims something absurd.
        UnsupportedAudio: the codec is not one that TuneLab reads.
    """
    magic = source.read(offset, 4)
    order = ">" if magic == b"RIFX" else "<"
    form, begin, claimed = _find_chunks(source, offset, order, long_sizes=magic in (b"RF64", b"BW64"))
    limits.check_stream(form.sample_rate, form.channels)
    there = source.size - begin
    streamed = _written_by_a_stream(claimed)
    if claimed == 0 and (there <= 0 or source.read(begin, 4) in _KNOWN_CHUNKS):
        raise EmptyAudio("the WAV file has no samples")
    if there <= 0:
        raise CorruptAudio("the WAV file breaks off before its first sample")
    size = there if streamed else min(there, claimed)

    if form.codec in _MPEG_CODECS:
        return FrameReader(source, limits, "mpeg", begin, begin + size)
    if form.codec in _LIBSNDFILE_CODECS:
        return SoundFileReader(source, limits, "WAV", offset)
    subtype, sample_bytes = _encoding(form)
    frame_bytes = sample_bytes * form.channels
    claimed_s = claimed / frame_bytes / form.sample_rate
    if not streamed and claimed_s > limits.max_duration_s and there < claimed // 2:
        raise ImplausibleAudio(f"the WAV header claims {claimed_s:.0f} s of audio in a file of {source.size} bytes")
    return PcmReader(source, begin, size // frame_bytes, form, subtype, frame_bytes, order)


class PcmReader:
    """A :class:`~tunelab.audio._reader.Reader` on uncompressed samples at a known place of the file."""

    def __init__(
        self, source: Source, begin: int, frames: int, form: _Format, subtype: str, frame_bytes: int, order: str
    ) -> None:
        self.sample_rate = form.sample_rate
        self.frames: int | None = frames
        self._source = source
        self._begin = begin
        self._channels = form.channels
        self._subtype = subtype
        self._frame_bytes = frame_bytes
        self._endian = "BIG" if order == ">" else "LITTLE"
        self._length = frames

    def read(self, start: int, count: int) -> FloatArray:
        count = min(count, self._length - start)
        chunk = max(1, CHUNK_VALUES // self._channels)
        return join([self._convert(at, min(chunk, start + count - at)) for at in range(start, start + count, chunk)])

    def count(self, limit: int) -> int:
        return self._length

    def close(self) -> None:
        pass

    def _convert(self, start: int, count: int) -> FloatArray:
        self._source.deadline.check()
        raw = self._source.read(self._begin + start * self._frame_bytes, count * self._frame_bytes)
        with soundfile.SoundFile(
            io.BytesIO(raw),
            samplerate=self.sample_rate,
            channels=self._channels,
            format="RAW",
            subtype=self._subtype,
            endian=self._endian,
        ) as file:
            return mix_down(file.read(dtype="float32", always_2d=True))


def _find_chunks(source: Source, offset: int, order: str, *, long_sizes: bool) -> tuple[_Format, int, int]:
    """The format, where the samples begin, and how many bytes of them the header claims."""
    form: _Format | None = None
    data_size: int | None = None
    at = offset + 12
    for _ in range(_MAX_CHUNKS):
        header = source.read(at, 8)
        if len(header) < 8:
            break
        name, size = header[:4], int(struct.unpack(order + "I", header[4:])[0])
        if name == b"ds64" and long_sizes:
            sizes = source.read(at + 8, 16)
            data_size = struct.unpack("<Q", sizes[8:])[0] if len(sizes) == 16 else None
        elif name == b"fmt ":
            form = _parse_format(source.read(at + 8, min(size, 40)), order)
        elif name == b"data":
            if form is None:
                raise CorruptAudio("the WAV file has samples but does not say in which format")
            return form, at + 8, data_size if data_size is not None and size == 0xFFFFFFFF else size
        at += 8 + size
        # Chunks are padded to even lengths, but not every program knows.
        if size % 2 and source.read(at, 4) not in _KNOWN_CHUNKS:
            at += 1
        source.deadline.check()
    raise CorruptAudio("the WAV file has no samples: its data chunk is missing")


def _parse_format(chunk: bytes, order: str) -> _Format:
    if len(chunk) < 14:
        raise CorruptAudio("the format chunk of the WAV file is too short")
    codec, channels, sample_rate, _, block = struct.unpack(order + "HHIIH", chunk[:14])
    bits = struct.unpack(order + "H", chunk[14:16])[0] if len(chunk) >= 16 else 8
    if codec == _EXTENSIBLE and len(chunk) >= 26:
        codec = struct.unpack(order + "H", chunk[24:26])[0]
    return _Format(codec, channels, sample_rate, block, bits)


def _encoding(form: _Format) -> tuple[str, int]:
    """libsndfile's name of the sample format, and bytes a sample."""
    needed = -(-form.bits // 8)
    # The block size is right where both are there: 20 bits are stored in 3 bytes, 24 bits sometimes in 4.
    container = form.block_bytes // form.channels if form.block_bytes % form.channels == 0 else needed
    size = container if 0 < needed <= container <= 8 else needed
    if form.codec in _LOGARITHMIC:
        return _LOGARITHMIC[form.codec], 1
    if form.codec == 1 and size in _PCM:
        return _PCM[size], size
    if form.codec == 3 and size in _FLOAT:
        return _FLOAT[size], size
    raise UnsupportedAudio(f"WAV with codec 0x{form.codec:04x} and {form.bits} bits is not supported")


def _written_by_a_stream(claimed: int) -> bool:
    """Whether the size stands for "not known when the header was written"."""
    return (
        claimed == 0
        or 0x7FFFF000 <= claimed <= 0x80000000
        or 0xFFFFF000 <= claimed <= 0xFFFFFFFF
        or claimed >= 0x7FFFFFFFFFFFF000
    )
