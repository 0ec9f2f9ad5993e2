"""How far scores move when nothing changes that a listener would call another piece of music."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile as sf
import soxr
from safetensors.numpy import load_file

from tunelab.analyzer import Analyzer
from tunelab.errors import SettingsError
from tunelab.types import HEADS, FloatArray

Points = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Condition -> head -> ``{"mean": .., "p95": ..}``, in points of 0 to 100."""
RATE = 16_000
CONDITIONS = (
    "level -12 dB",
    "level +12 dB",
    "MP3 64 kb/s",
    "stereo 48 kHz",
    "22.05 kHz",
    "16 kHz, full band",
    "window 2.5 s later",
)


def wav(samples: FloatArray, rate: int = RATE) -> bytes:
    """A 16-bit WAV file of samples ``(n,)`` or ``(n, channels)``; what is beyond full scale is clipped."""
    file = io.BytesIO()
    sf.write(file, np.clip(samples, -1, 1), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def mp3(samples: FloatArray, kilobits: int) -> bytes:
    """A mono MP3 file of 16 kHz samples ``(n,)`` at a constant rate, encoded at 44.1 kHz."""
    loud = np.clip(soxr.resample(samples, RATE, 44_100), -1, 1).astype(np.float32)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as output:
        stream = output.add_stream("libmp3lame", rate=44_100, layout="mono")
        stream.bit_rate = 1000 * kilobits
        frame = av.AudioFrame.from_ndarray(loud[None], format="fltp", layout="mono")
        frame.sample_rate = 44_100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return file.getvalue()


def variants(samples: FloatArray) -> dict[str, bytes]:
    """The plain file (under ``""``) and one for each of :data:`CONDITIONS`, of samples ``(n,)`` at 16 kHz.

    The plain one has 44.1 kHz, as most files have, and peaks 12 dB below full scale, so that 12 dB more are not
    clipped. Made from a clip of 16 kHz, it has lost the last 6 % of the band below 8 kHz, as all variants have but one:
    the clip itself.
    """
    plain = (samples * (0.25 / max(float(np.abs(samples).max()), 1e-6))).astype(np.float32)
    usual: FloatArray = soxr.resample(plain, RATE, 44_100)
    wide: FloatArray = soxr.resample(plain, RATE, 48_000)
    files = [
        wav(usual * np.float32(0.25), 44_100),
        wav(usual * np.float32(3.98), 44_100),
        mp3(plain, 64),
        # Both channels carry it, one 3 dB louder than the other.
        wav(np.stack([1.17 * wide, 0.83 * wide], axis=1, dtype=np.float32), 48_000),
        wav(soxr.resample(plain, RATE, 22_050), 22_050),
        wav(plain),
        # A clip has no more than the window: its beginning comes last.
        wav(np.roll(usual, -int(2.5 * 44_100)), 44_100),
    ]
    return {"": wav(usual, 44_100), **dict(zip(CONDITIONS, files, strict=True))}


def measure(score: Callable[[bytes], Mapping[str, float]], clips: list[FloatArray]) -> dict[str, dict[str, Any]]:
    """Changes of scores against the plain file, in points of 0 to 100.

    Args:
        score: the bytes of a file -> head -> 0..1.
        clips: samples at 16 kHz.

    Returns:
        condition -> head -> ``{"mean": .., "p95": ..}`` of the absolute changes.
    """
    changes: dict[str, dict[str, list[float]]] = {name: {} for name in CONDITIONS}
    for samples in clips:
        files = variants(samples)
        plain = score(files.pop(""))
        for name, file in files.items():
            for head, value in score(file).items():
                changes[name].setdefault(head, []).append(100 * abs(value - plain[head]))
    return {
        name: {
            head: {"mean": round(float(np.mean(values)), 2), "p95": round(float(np.percentile(values, 95)), 2)}
            for head, values in by_head.items()
        }
        for name, by_head in changes.items()
    }


def held_out_clips(folder: Path, count: int) -> list[FloatArray]:
    """Audio of ``count`` held-out clips, evenly spread over the rendered shards, as float32 at 16 kHz.

    Raises:
        SettingsError: there are none.
    """
    shards = sorted((folder / "audio").glob("heldout-*.safetensors"))
    if not shards:
        raise SettingsError("no held-out clips: render them first")
    rows = [row for path in shards for row in load_file(path)["audio"]]
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return [rows[number].astype(np.float32) / 32767 for number in chosen]


def robustness(bundle: Path, clips: Path, count: int = 60) -> dict[str, Any]:
    """The card's rows: :func:`measure` on held-out clips, through the whole road from a file to scores.

    ``vibenet`` holds the same of vibenet, by its own road: where both move, it is the music that differs.
    """
    from tunelab.encoder.bundle import Bundle
    from tunelab.training.teachers import Vibenet

    analyzer, vibenet = Analyzer(Bundle.open(bundle)), Vibenet()
    audio = held_out_clips(clips, count)
    return {
        "n": len(audio),
        "points": measure(lambda data: analyzer.analyze(data).scores, audio),
        "vibenet": measure(vibenet.of_file, audio),
    }


def table(points: Points, vibenet: Points | None = None) -> list[str]:
    """Markdown rows: condition, then mean / 95th percentile for each head; those of vibenet below each."""
    heads = [head for head in HEADS if all(head in row for row in points.values())]
    lines = [f"| change | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name in points:
        for title, row in ((name, points[name]), (f"{name}, vibenet", (vibenet or {}).get(name))):
            if row is not None:
                cells = [f"{row[head]['mean']:.1f} / {row[head]['p95']:.1f}" for head in heads]
                lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines
