"""The tracks that everything is measured on: made here, always the same, or the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

RATE = 44_100
TRACK_S = 240.0
MAX_FILES = 8
_BEAT_S = 0.5
_BEATS = 4
_CHORDS = ((220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (261.6, 329.6, 392.0), (196.0, 246.9, 293.7))
_SUFFIXES = {".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".wav", ".aif", ".aiff"}

Bar = npt.NDArray[np.float32]
"""Shape ``(samples, 2)``, within +-1."""


@dataclass(frozen=True, slots=True)
class Made:
    """How one of the tracks is encoded."""

    name: str
    format: str
    subtype: str
    options: tuple[tuple[str, Any], ...] = ()


MADE = (
    Made("cbr.mp3", "MP3", "MPEG_LAYER_III", (("bitrate_mode", "CONSTANT"), ("compression_level", 0.2))),
    Made("track.flac", "FLAC", "PCM_16"),
    Made("track.ogg", "OGG", "VORBIS", (("compression_level", 0.4),)),
    Made("vbr.mp3", "MP3", "MPEG_LAYER_III", (("bitrate_mode", "VARIABLE"), ("compression_level", 0.3))),
)


def make_tracks(folder: Path, seconds: float = TRACK_S, count: int = len(MADE)) -> list[Path]:
    """Encode the first ``count`` of :data:`MADE` into ``folder``; stereo at 44.1 kHz, the same at each call."""
    paths = []
    for seed, made in enumerate(MADE[:count]):
        path = folder / made.name
        with soundfile.SoundFile(
            path, "w", RATE, 2, subtype=made.subtype, format=made.format, **dict(made.options)
        ) as file:
            # Bar by bar: libsndfile's Vorbis encoder overflows its stack with a whole track at once.
            for bar in synthesise(seconds, seed):
                file.write(bar)
        paths.append(path)
    return paths


def own_tracks(folder: Path) -> list[Path]:
    """The first :data:`MAX_FILES` audio files of a folder by name, not looking into folders below it.

    Raises:
        ValueError: there is none.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise ValueError(f"no audio files in {folder}")
    return [path.resolve() for path in found[:MAX_FILES]]


def synthesise(seconds: float, seed: int) -> Iterator[Bar]:
    """Bars of something like music: chords, bass, melody and drums in stereo, on a floor of noise."""
    rng = np.random.default_rng(seed)
    left = round(seconds * RATE)
    number = 0
    while left > 0:
        bar = _bar(_CHORDS[number % len(_CHORDS)], number, rng)[:left]
        yield bar
        left -= len(bar)
        number += 1


def _bar(chord: tuple[float, ...], number: int, rng: np.random.Generator) -> Bar:
    beat = round(_BEAT_S * RATE)
    count = _BEATS * beat
    # Loud and quiet parts take turns, so that encoders of a variable bit rate have something to vary.
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * number / 32) ** 2
    out: Bar = _backing(chord) + np.float32(0.01) * rng.standard_normal((count, 2), dtype=np.float32)
    note = beat // 2
    time = np.arange(note, dtype=np.float32) / np.float32(RATE)
    decay = np.exp(-time / np.float32(0.12))
    for start in range(0, count, note):
        pitch = np.float32(2 * chord[rng.integers(len(chord))] * rng.choice((1.0, 1.125, 1.5)))
        melody = np.sin(2 * np.pi * pitch * time + 2 * np.sin(4 * np.pi * pitch * time) * decay) * decay
        out[start : start + note] += np.multiply.outer(melody, rng.uniform(0.05, 0.15, 2).astype(np.float32))
        hat = rng.standard_normal((note, 2), dtype=np.float32) * (decay**6)[:, None]
        out[start : start + note] += np.float32(0.3 if start % (2 * beat) == beat else 0.08) * hat
    clipped: Bar = np.clip(np.float32(loudness) * out, -1, 1)
    return clipped


@cache
def _backing(chord: tuple[float, ...]) -> Bar:
    """What is the same in each bar of a chord: three voices across the stereo field, bass and kick."""
    beat = round(_BEAT_S * RATE)
    time = np.arange(_BEATS * beat) / RATE
    out = np.multiply.outer(0.2 * np.sin(np.pi * chord[0] * time), (1.0, 1.0))
    for voice, frequency in enumerate(chord):
        phase = 2 * np.pi * frequency * (time + 2e-5 * np.sin(2 * np.pi * 5 * time))
        tone = np.sum([np.sin(partial * phase) / partial**1.5 for partial in range(1, 6)], axis=0)
        pan = 0.2 + 0.3 * voice
        out += 0.06 * np.multiply.outer(tone, (1 - pan, pan))
    strike = time[:beat]
    kick = np.sin(2 * np.pi * 50 * strike + 12 * (1 - np.exp(-40 * strike))) * np.exp(-12 * strike)
    out += 0.45 * np.tile(kick, _BEATS)[:, None]
    return out.astype(np.float32)
