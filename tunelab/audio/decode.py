"""Decode one window of an audio file of any common format, or the whole: bytes or path -> mono float32.

Of a window, only the window is decoded: every reader goes to it directly. Lengths that a header claims decide nothing
on their own; where fewer samples come than it promised, the track is measured and the window chosen again.
Uncompressed audio, FLAC, Vorbis and MP3 are sample exact; Opus and AAC in Ogg and MP4 too, but for the noise that an
AAC decoder makes up; WebM is placed to its clock of 1 ms.
"""

from __future__ import annotations

import math

import numpy as np
import soxr

from tunelab.audio._ffmpeg import ContainerReader
from tunelab.audio._libsndfile import SoundFileReader
from tunelab.audio._mp4 import check_mp4
from tunelab.audio._mpeg import FrameReader
from tunelab.audio._reader import Reader
from tunelab.audio._source import AudioSource, Source
from tunelab.audio._wav import open_wav
from tunelab.audio.limits import DecodeLimits
from tunelab.audio.sniff import Format, sniff
from tunelab.errors import AudioTooShort, CorruptAudio, EmptyAudio, ImplausibleAudio, SilentAudio
from tunelab.types import FloatArray, Waveform

__all__ = ["AudioSource", "DecodeLimits", "decode", "decode_track"]

_MARGIN_S = 0.1
"""Audio resampled on each side of the window, so that its ends are as if the whole track had been resampled."""
_MAX_PEAK = 1e6
"""Times full scale. Float files may exceed it a little; such numbers are no audio and would overflow later."""
SILENCE = 1e-5
"""-100 dB of full scale: below one step of 16 bits, above what lossy codecs make of digital silence."""
_MIN_BYTES_PER_S = 32
"""Fewer bytes than any codec needs for a second, even of silence."""
_PIECE_S = 60.0
"""Of a whole track, so much is held at the file's own sampling rate at a time."""
_FALLBACKS = (0.25, 0.75, 0.0, 1.0)
"""Other places of the window, as fractions of the way, for a track that is silent in its middle."""
_ALL_SILENT = "the track is silent from beginning to end (or its channels cancel each other out)"
_SILENT_WHERE_LOOKED = (
    "the track is silent at its middle, its ends and between them (or its channels cancel each other out)"
)


def decode(
    source: AudioSource,
    *,
    sample_rate: int = 16_000,
    window_s: float = 30.0,
    start: float | None = None,
    limits: DecodeLimits | None = None,
) -> Waveform:
    """Decode the middle of a track, or another window of it.

    The format is found by content. Reads MP3 (also MP2), FLAC, WAV (PCM 8 to 32 bits, float, A-law, mu-law,
    extensible, RF64), AIFF and AIFF-C, Ogg Vorbis, Opus and FLAC, AAC (MP4, M4A, ADTS), ALAC, WebM, the sound of MP4,
    MOV and Matroska videos, and AU, CAF and W64. Channels are averaged. The same bytes give the same samples.

    Args:
        source: the bytes of a file, or its path.
        sample_rate: wanted, in Hz.
        window_s: length of the window in seconds.
        start: where the window begins, in seconds; ``None``: so that its middle is the track's, or, where that is
            digital silence, elsewhere.
        limits: what is refused; ``None``: ``DecodeLimits()``.

    Returns:
        ``round(window_s * sample_rate)`` samples, fewer if the track (from ``start`` on) is shorter.

    Raises:
        AudioError: the file is at fault; the subclass says how. Not for a silent window if ``start`` is given.
        OSError: a path that cannot be opened: missing, a folder, not permitted.
        ValueError: an argument makes no sense, or the track ends before ``start``.

    Example:
        >>> waveform = decode("track.mp3")
        >>> waveform.samples.shape, waveform.start_s, waveform.duration_s
        ((480000,), 104.31, 238.62)
    """
    if sample_rate < 1 or not 0 < window_s < math.inf:
        raise ValueError("sample_rate and window_s must be positive")
    if start is not None and not 0 <= start < math.inf:
        raise ValueError(f"start must not be negative, but is {start}")
    limits = limits or DecodeLimits()
    with Source(source, limits) as opened:
        reader = _open(opened, limits)
        try:
            return _Window(reader, opened, limits, sample_rate, window_s).decode(start)
        finally:
            reader.close()


def decode_track(source: AudioSource, *, sample_rate: int = 16_000, limits: DecodeLimits | None = None) -> Waveform:
    """Decode a whole track, as :func:`decode` decodes a window of it.

    Memory: 4 bytes for each sample of the result (77 MB for 20 minutes at 16 kHz) and a minute at the file's own rate.

    Args:
        source: the bytes of a file, or its path.
        sample_rate: wanted, in Hz.
        limits: what is refused; ``None``: ``DecodeLimits()``.

    Returns:
        All samples; ``duration_s`` is their length.

    Raises:
        AudioError: the file is at fault; the subclass says how.
        OSError: a path that cannot be opened: missing, a folder, not permitted.
        ValueError: ``sample_rate`` is below 1.
    """
    if sample_rate < 1:
        raise ValueError("sample_rate must be positive")
    limits = limits or DecodeLimits()
    with Source(source, limits) as opened:
        reader = _open(opened, limits)
        try:
            return _Window(reader, opened, limits, sample_rate, _PIECE_S).decode_all()
        finally:
            reader.close()


def _open(source: Source, limits: DecodeLimits) -> Reader:
    found = sniff(source)
    offset = found.offset
    match found.format:
        case Format.MPEG:
            return FrameReader(source, limits, "mpeg", offset)
        case Format.ADTS:
            return FrameReader(source, limits, "aac", offset)
        case Format.WAV:
            return open_wav(source, limits, offset)
        case Format.MP4:
            check_mp4(source, limits, offset)
            return ContainerReader(source, limits, "mov", "MP4", offset)
        case Format.CAF:
            return ContainerReader(source, limits, "caf", "CAF", offset)
        case Format.MATROSKA:
            return ContainerReader(source, limits, "matroska", "WebM", offset)
        case Format.OGG_OPUS | Format.OGG_FLAC | Format.OGG_VIDEO:
            # libsndfile reads Opus too, but takes almost three times as long; of FLAC in Ogg it only claims to.
            return ContainerReader(source, limits, "ogg", found.format.value, offset)
        case _:
            return SoundFileReader(source, limits, found.format.value, offset)


class _Window:
    """The arithmetic between a reader's frames and output samples."""

    def __init__(self, reader: Reader, source: Source, limits: DecodeLimits, sample_rate: int, window_s: float) -> None:
        self._reader = reader
        self._source = source
        self._limits = limits
        self._rate = reader.sample_rate
        self._sample_rate = sample_rate
        self._length = max(1, round(window_s * sample_rate))
        self._frames = 0

    def decode(self, start: float | None) -> Waveform:
        self._find_length()
        samples, begin = self._decode_at(start)
        if samples is None:  # the header promised more than there is
            self._measure()
            samples, begin = self._decode_at(start, accept_fewer=True)
        if samples is None or samples.size == 0:
            raise CorruptAudio("nothing of the file can be decoded")
        if start is None and _is_silent(samples):
            samples, begin = self._find_sound()
        return Waveform(samples, self._sample_rate, begin / self._sample_rate, self._frames / self._rate)

    def decode_all(self) -> Waveform:
        """The whole track, window by window."""
        self._find_length()
        samples = self._decode_windows()
        if samples is None:  # the header promised more than there is
            self._measure()
            samples = self._decode_windows(accept_fewer=True)
        if samples is None or samples.size == 0:
            raise CorruptAudio("nothing of the file can be decoded")
        if _is_silent(samples):
            raise SilentAudio(_ALL_SILENT)
        return Waveform(samples, self._sample_rate, 0.0, samples.size / self._sample_rate)

    def _find_length(self) -> None:
        claimed = self._reader.frames
        if claimed is None:
            self._measure()
        else:
            self._check_claim(claimed)

    def _decode_windows(self, *, accept_fewer: bool = False) -> FloatArray | None:
        samples = np.empty(self._total, dtype=np.float32)
        filled = 0
        while filled < samples.size:
            part = self._read(filled, min(self._length, samples.size - filled), accept_fewer=accept_fewer)
            if part is None:
                return None
            if part.size == 0:
                break
            samples[filled : filled + part.size] = part
            filled += part.size
        samples.resize(
            filled, refcheck=False
        )  # where there is less than was measured, the rest of the memory goes back
        return samples

    def _check_claim(self, frames: int) -> None:
        duration_s = frames / self._rate
        if duration_s > self._limits.max_duration_s and self._source.size < duration_s * _MIN_BYTES_PER_S:
            raise ImplausibleAudio(
                f"the header claims {duration_s:.0f} s of audio in a file of {self._source.size} bytes"
            )
        self._limits.check_duration(duration_s)
        if frames == 0:
            raise EmptyAudio("the file has no samples")
        self._check_minimum(frames)
        self._frames = frames

    def _check_minimum(self, frames: int) -> None:
        if frames < self._limits.min_duration_s * self._rate:
            raise AudioTooShort(
                f"the track is {frames / self._rate:.2f} s long; at least {self._limits.min_duration_s:g} s are needed"
            )

    def _measure(self) -> None:
        """Replace the claimed length by what can really be decoded."""
        claimed, limit = self._frames, int(self._limits.max_duration_s * self._rate)
        self._frames = self._reader.count(limit)
        self._source.deadline.check()
        self._limits.check_duration(self._frames / self._rate)
        if self._frames == 0:
            raise CorruptAudio("nothing of the file can be decoded")
        if claimed and self._frames < self._limits.min_duration_s * self._rate:
            raise CorruptAudio(
                f"only {self._frames / self._rate:.2f} s of the {claimed / self._rate:.2f} s that the header claims "
                "can be decoded"
            )
        self._check_minimum(self._frames)

    @property
    def _total(self) -> int:
        """Output samples of the whole track."""
        return max(1, self._frames * self._sample_rate // self._rate)

    def _decode_at(self, start: float | None, *, accept_fewer: bool = False) -> tuple[FloatArray | None, int]:
        if start is None:
            begin = max(0, self._total - self._length) // 2
        else:
            begin = round(start * self._sample_rate)
            if begin >= self._total:
                raise ValueError(f"the track ends at {self._frames / self._rate:.2f} s, before start = {start} s")
        return self._read(begin, min(self._length, self._total - begin), accept_fewer=accept_fewer), begin

    def _read(self, begin: int, length: int, *, accept_fewer: bool) -> FloatArray | None:
        """Output samples ``begin`` to ``begin + length``; ``None`` if the reader had fewer and that is not accepted."""
        if self._rate == self._sample_rate:
            first, margin, step_out, step_in = begin, 0.0, 1, 1
        else:
            # Frames and samples coincide every step_in frames: from such a place the resampler is in phase.
            common = math.gcd(self._rate, self._sample_rate)
            step_in, step_out = self._rate // common, self._sample_rate // common
            margin = _MARGIN_S * self._rate
            first = max(0, int(begin * self._rate / self._sample_rate - margin) // step_in * step_in)
        last = min(self._frames, math.ceil((begin + length) * self._rate / self._sample_rate + margin))
        mono = self._reader.read(first, last - first)
        self._source.deadline.check()
        if mono.size < last - first and not accept_fewer:
            return None
        _check_samples(mono)
        if self._rate != self._sample_rate and mono.size:
            mono = soxr.resample(mono, self._rate, self._sample_rate, quality="HQ")
        skip = begin - first // step_in * step_out
        # A copy: the caller should not keep the margins, or a reader's buffer, alive.
        return np.array(mono[skip : skip + length], dtype=np.float32)

    def _find_sound(self) -> tuple[FloatArray, int]:
        room = self._total - self._length
        for fraction in _FALLBACKS if room > 0 else ():
            begin = round(fraction * room)
            samples = self._read(begin, self._length, accept_fewer=True)
            if samples is not None and samples.size and not _is_silent(samples):
                return samples, begin
        raise SilentAudio(_SILENT_WHERE_LOOKED if room > 0 else _ALL_SILENT)


def _check_samples(mono: FloatArray) -> None:
    if mono.size == 0:
        return
    low, high = float(mono.min()), float(mono.max())  # both are NaN if any sample is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise CorruptAudio("the file holds samples that are not numbers (NaN or infinity)")
    if max(-low, high) > _MAX_PEAK:
        raise CorruptAudio("the file holds samples far beyond full scale")


def _is_silent(samples: FloatArray) -> bool:
    return max(float(samples.max()), -float(samples.min())) < SILENCE
