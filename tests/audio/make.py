"""Audio files for the tests, encoded from synthetic signals when a test needs them."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile

from tunelab.types import FloatArray

Signal = npt.NDArray[np.float32]
"""Shape ``(n, channels)``, within +-1."""


def notes(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> Signal:
    """Notes of random pitch, length and loudness on a floor of noise: no two places sound the same."""
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    out = 0.003 * rng.standard_normal((count, channels))
    at = 0
    while at < count:
        length = int(rng.uniform(0.05, 0.3) * rate)
        time = np.arange(min(length, count - at)) / rate
        frequency = rng.uniform(150.0, min(2500.0, 0.3 * rate))
        tone = np.sin(2 * np.pi * frequency * time) * np.hanning(length)[: time.size] * rng.uniform(0.1, 0.7)
        out[at : at + time.size] += tone[:, None] * rng.uniform(0.4, 1.0, channels)
        at += length // 2
    return np.clip(out, -1, 1).astype(np.float32)


def mono(signal: Signal) -> FloatArray:
    """What the decoder's mix of the channels should be."""
    mixed: FloatArray = signal.astype(np.float64).mean(axis=1).astype(np.float32)
    return mixed


def encode(
    signal: Signal,
    rate: int,
    container: str,
    codec: str,
    *,
    bit_rate: int | None = None,
    codec_options: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    video: bool = False,
    layout: str | None = None,
) -> bytes:
    """Encode with FFmpeg; with ``video`` a small picture comes along, and an empty ``signal`` leaves only that."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=dict(options or {})) as output:
        output.metadata.update(metadata or {})
        packets = _add_video(output, container) if video else []
        if signal.size:
            packets += _add_audio(output, signal, rate, codec, bit_rate, codec_options, layout)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return file.getvalue()


def _add_audio(
    output: Any, signal: Signal, rate: int, codec: str, bit_rate: int | None, options: Any, layout: str | None
) -> list[Any]:
    layout = layout or {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[signal.shape[1]]
    stream = output.add_stream(codec, rate=rate, layout=layout, options=dict(options or {}))
    if bit_rate:
        stream.bit_rate = bit_rate
    packets = []
    for at in range(0, len(signal), 4096):
        block = np.ascontiguousarray(signal[at : at + 4096]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def _add_video(output: Any, container: str) -> list[Any]:
    stream = output.add_stream({"webm": "libvpx-vp9"}.get(container, "mpeg4"), rate=5)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
    packets = []
    for number in range(20):
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * number, np.uint8), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 5)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def mp3(signal: Signal, rate: int, *, bit_rate: int | None = 128_000, xing: bool = True, **more: Any) -> bytes:
    """MP3 by LAME: CBR with ``bit_rate``, VBR without; ``xing=False`` leaves the Xing/LAME frame out."""
    options = {"write_xing": str(int(xing)), "id3v2_version": "0", **more.pop("options", {})}
    vbr = {} if bit_rate else {"compression_level": "7"}
    packed = encode(signal, rate, "mp3", "libmp3lame", bit_rate=bit_rate, codec_options=vbr, options=options, **more)
    return packed


def sound_file(signal: Signal, rate: int, container: str, subtype: str, endian: str = "FILE") -> bytes:
    """Encode with libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=container, subtype=subtype, endian=endian)
    return file.getvalue()


def wav(
    data: bytes,
    *,
    rate: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    codec: int = 1,
    order: str = "<",
    claimed: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    """A WAV file made by hand, so that any field may lie."""
    block = max(1, bits // 8) * channels
    form = struct.pack(order + "HHIIHH", codec, channels, rate, rate * block & 0xFFFFFFFF, block, bits) + extra
    size = len(data) if claimed is None else claimed
    body = b"WAVE" + chunk(b"fmt ", form, order) + before + b"data" + struct.pack(order + "I", size) + data + after
    return {"<": b"RIFF", ">": b"RIFX"}[order] + struct.pack(order + "I", min(len(body), 0xFFFFFFFF)) + body


def chunk(name: bytes, data: bytes, order: str = "<", *, pad: bool = True) -> bytes:
    """One RIFF chunk, padded to an even length unless a sloppy writer is wanted."""
    return name + struct.pack(order + "I", len(data)) + data + (b"\0" if pad and len(data) % 2 else b"")


def pcm16(signal: Signal, order: str = "<") -> bytes:
    return np.round(signal * 32767).astype(order + "i2").tobytes()


def box(name: bytes, *content: bytes) -> bytes:
    """One MP4 box."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


def lag(wanted: FloatArray, got: FloatArray, reach: int = 4000) -> int:
    """Samples by which ``got`` is late, by the peak of the cross-correlation."""
    size = min(wanted.size, got.size)
    length = 1 << (2 * size - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(got[:size], length) * np.conj(np.fft.rfft(wanted[:size], length)), length)
    around = np.concatenate([product[-reach:], product[: reach + 1]])
    return int(np.argmax(around)) - reach


def snr_db(wanted: FloatArray, got: FloatArray) -> float:
    """Signal to noise ratio over the samples that both have."""
    size = min(wanted.size, got.size)
    noise = np.square(wanted[:size].astype(np.float64) - got[:size]).mean()
    return float(10 * np.log10(np.square(wanted[:size].astype(np.float64)).mean() / max(noise, 1e-30)))
