"""Synthesised music: pieces of notes and drums that differ by their seed alone, and a tiny tracker module."""

import numpy as np

from tunelab.types import FloatArray

RATE = 16_000
PERIOD = 32
"""Samples of the instrument's one cycle."""
NOTE = 428
"""Amiga period of C-2: 8287 samples a second."""


def piece(seed: int, seconds: float, rate: int = RATE) -> FloatArray:
    """Two voices of decaying notes in C major and a drum, at 120 beats a minute; mono float32, peak 0.5."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(int(seconds * rate), np.float32)
    for start in np.arange(0, seconds, 0.25):
        times = np.arange(int(0.5 * rate)) / rate
        sound = np.zeros(len(times))
        for octave in (220.0, 440.0):
            pitch = octave * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11]) / 12)
            for harmonic in range(1, 7):
                sound += rng.uniform(0.2, 1) / harmonic * np.sin(2 * np.pi * pitch * harmonic * times)
        sound *= np.exp(-6 * times)
        sound += 0.3 * rng.normal(size=len(times)) * np.exp(-60 * times)
        place = int(start * rate)
        part = samples[place : place + len(sound)]
        part += sound[: len(part)].astype(np.float32)
    return 0.5 * samples / np.abs(samples).max()


def tiny_module(patterns: int = 1) -> bytes:
    """A ProTracker module: one cycle of a square wave, looped, as one note for 64 rows of 0.12 s a pattern."""
    instrument = b"square".ljust(22, b"\0") + (PERIOD // 2).to_bytes(2, "big") + bytes([0, 64])
    instrument += (0).to_bytes(2, "big") + (PERIOD // 2).to_bytes(2, "big")
    nothing = bytes(28) + (1).to_bytes(2, "big")
    header = b"tiny".ljust(20, b"\0") + instrument + 30 * nothing + bytes([patterns, 127]) + bytes(128) + b"M.K."
    note = bytes([NOTE >> 8, NOTE & 255, 1 << 4, 0])
    pattern = note + bytes(64 * 4 * 4 - 4)
    cycle = np.repeat(np.array([100, -100], np.int8), PERIOD // 2).tobytes()
    return header + pattern + cycle
