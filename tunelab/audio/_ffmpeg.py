"""MP4/MOV, WebM/Matroska, CAF, and Opus and FLAC in Ogg through PyAV (FFmpeg's libraries).

FFmpeg never guesses the format of an uploaded file and never opens anything but that file: the demuxer is named, a
request for another file or address is refused, and only audio decoders may be used.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tunelab.audio._reader import allow_broken_floats, join, mix_down, mix_planes
from tunelab.audio._source import Source
from tunelab.audio.limits import DecodeLimits
from tunelab.errors import CorruptAudio, NoAudioStream
from tunelab.types import FloatArray

_PREROLL_S = 1.0
"""Decoded before the window: Opus needs 80 ms to settle, AAC and Vorbis overlap their frames."""
_DECODERS = (
    "aac,alac,mp3float,mp3,mp2float,mp2,opus,libopus,vorbis,flac,ac3,eac3,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,"
    "pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_u8,pcm_s8,pcm_alaw,pcm_mulaw"
)
_OPTIONS = {"codec_whitelist": _DECODERS, "protocol_whitelist": "none", "enable_drefs": "0", "use_absolute_path": "0"}
_SAMPLE_FORMATS = {
    "u8": (np.uint8, 128.0),
    "s16": (np.int16, 32768.0),
    "s32": (np.int32, 2147483648.0),
    "flt": (np.float32, 1.0),
    "dbl": (np.float64, 1.0),
}
"""FFmpeg's sample formats that the decoders above give: NumPy's type, full scale."""
_BUFFER = 1 << 16
_MAX_PLANES = 7
"""PyAV looks for a null pointer behind a frame's planes, one for each channel. Only frames of up to 7 have one."""


class ContainerReader:
    """A :class:`~tunelab.audio._reader.Reader` on the first sound track of a container.

    Args:
        source: the file.
        limits: what is refused.
        demuxer: FFmpeg's name of the container format.
        name: of the format, for messages.
        offset: where in the file the container begins, in bytes.
    """

    def __init__(self, source: Source, limits: DecodeLimits, demuxer: str, name: str, offset: int = 0) -> None:
        self._source = source
        self._limits = limits
        self._demuxer = demuxer
        self._name = name
        self._offset = offset
        self._container: Any = None
        self._stream: Any
        self._open()
        self.sample_rate = int(self._stream.codec_context.sample_rate)
        try:
            limits.check_stream(self.sample_rate, int(self._stream.codec_context.channels))
        except BaseException:
            self.close()
            raise
        self.frames: int | None = self._claimed_frames()

    def read(self, start: int, count: int) -> FloatArray:
        target = max(0, start - round(_PREROLL_S * self.sample_rate))
        mono, position = self._decode(self._seek(target), start, count)
        if position is not None and position > start and target > 0:
            # No usable index: the demuxer went too far, or nowhere. Walk there from the start.
            self._open()
            packets = itertools.dropwhile(lambda packet: self._position(packet, -1) < target, self._packets())
            mono, position = self._decode(packets, start, count)
        return mono

    def count(self, limit: int) -> int:
        self._open()
        end = 0
        for packet in self._packets():
            position = self._position(packet, end)
            end = max(end, position + self._to_frames(packet.duration or 0))
            if end > limit:
                break
        return end

    def close(self) -> None:
        self._container.close()

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        try:
            self._container = av.open(
                self._source.file(self._offset),
                format=self._demuxer,
                container_options=_OPTIONS,
                io_open=_refuse_to_open,
                buffer_size=_BUFFER,
                metadata_errors="replace",
            )
        except (av.FFmpegError, UnicodeError, ValueError):
            self._source.deadline.check()
            raise CorruptAudio(f"the {self._name} file cannot be read; it may be cut off") from None
        stream = next((stream for stream in self._container.streams if stream.type == "audio"), None)
        if stream is None:
            self._container.close()
            raise NoAudioStream(f"the {self._name} file has no sound track")
        if stream.codec_context is None:
            self._container.close()
            raise CorruptAudio(f"the sound track of the {self._name} file is in a codec that cannot be decoded")
        self._stream = stream
        self._stream.codec_context.thread_count = 1
        self._time_base: Fraction = stream.time_base or Fraction(1, stream.codec_context.sample_rate or 1)

    def _claimed_frames(self) -> int | None:
        if self._stream.duration:
            return max(0, self._to_frames(self._stream.duration) - self._opus_pre_skip())
        if self._container.duration:
            return max(0, int(self._container.duration) * self.sample_rate // int(av.time_base))
        return None

    def _opus_pre_skip(self) -> int:
        """Frames that are in Ogg's clock but not in the sound: what the decoder throws away at the start."""
        codec = self._stream.codec_context
        if self._demuxer != "ogg" or codec.name not in ("opus", "libopus"):
            return 0
        return int.from_bytes((codec.extradata or b"")[10:12], "little")

    def _seek(self, target: int) -> Iterator[Any]:
        ticks = int(target / self.sample_rate / self._time_base) + (self._stream.start_time or 0)
        try:
            self._container.seek(ticks, stream=self._stream)
        except (av.FFmpegError, OverflowError):
            self._open()
        return self._packets()

    def _packets(self) -> Iterator[Any]:
        """Packets of the stream up to the end of the file, or to where it cannot be read any more."""
        packets = self._container.demux(self._stream)
        while True:
            self._source.deadline.check()
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):
                break
            yield packet
        self._source.deadline.check()

    def _position(self, item: Any, unknown: int) -> int:
        """Where in the track a packet or frame begins, in frames."""
        if item.pts is None:
            return unknown
        return self._to_frames(item.pts - (self._stream.start_time or 0))

    def _to_frames(self, ticks: int) -> int:
        return round(ticks * self._time_base * self.sample_rate)

    def _decode(self, packets: Iterator[Any], start: int, count: int) -> tuple[FloatArray, int | None]:
        """Decode to ``start + count``; the samples from ``start`` on, and where the first decoded frame was."""
        parts: list[FloatArray] = []
        first: int | None = None
        position = 0
        with allow_broken_floats():
            for frame in self._decoded(packets):
                if first is None:
                    # Later frames are counted from here: WebM's clock of 1 ms is too coarse to place each one.
                    first = position = self._position(frame, 0)
                    # The sound may begin later than the track: Vorbis does, by the overlap of its first two frames.
                    parts.append(np.zeros(max(0, min(count, position - start)), dtype=np.float32))
                if position + frame.samples > start:
                    parts.append(frame_to_mono(frame)[max(0, start - position) :])
                position += frame.samples
                if position >= start + count:
                    break
        return join(parts)[:count], first

    def _decoded(self, packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            try:
                frames = packet.decode()
            except (av.FFmpegError, ValueError):
                continue  # a broken packet; the next one may be fine
            for frame in frames:
                if frame.sample_rate != self.sample_rate:
                    raise CorruptAudio(f"the sound track of the {self._name} file changes its sampling rate")
                self._limits.check_stream(frame.sample_rate, frame.layout.nb_channels)
                yield frame


def frame_to_mono(frame: Any) -> FloatArray:
    """Mean over the channels of a decoded frame: float32, shape ``(samples,)``, full scale +-1.

    To be called within :func:`~tunelab.audio._reader.allow_broken_floats`.
    """
    channels, samples = frame.layout.nb_channels, frame.samples
    name, planar = frame.format.name, frame.format.is_planar
    if planar and channels > _MAX_PLANES:
        return join([frame_to_mono(packed) for packed in _interleave(frame)])
    dtype, scale = _SAMPLE_FORMATS[name.rstrip("p")]
    # Not frame.to_ndarray(), which takes as long for a frame as the decoder does.
    if not planar:
        packed = np.frombuffer(frame.planes[0], dtype, samples * channels)
        return mix_down(_to_float(packed, scale).reshape(samples, channels))
    planes = [_to_float(np.frombuffer(plane, dtype, samples), scale) for plane in frame.planes]
    return mix_planes(planes)


def _to_float(values: npt.NDArray[Any], scale: float) -> FloatArray:
    if scale == 1.0:
        return values.astype(np.float32, copy=False)
    floats: FloatArray = values.astype(np.float32)
    if values.dtype.kind == "u":
        floats -= np.float32(scale)
    floats *= np.float32(1.0 / scale)
    return floats


def _interleave(frame: Any) -> list[Any]:
    """The same samples with all channels in one plane."""
    try:
        resampler = av.AudioResampler(format=frame.format.packed)
        return [*resampler.resample(frame), *resampler.resample(None)]
    except (av.FFmpegError, ValueError):
        raise CorruptAudio("the channels cannot be told apart") from None


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError("a media file may not refer to other files")
