"""Melodies to sing: random notes of a scale, in the key of the music beneath."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunelab.training.tonality import MAJOR, MINOR

SCALES: tuple[tuple[int, ...], ...] = (MAJOR, MINOR, (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))
"""Major, natural minor, and both pentatonics, in semitones above the tonic."""
PENTATONIC: dict[tuple[int, ...], tuple[int, ...]] = {MAJOR: SCALES[2], MINOR: SCALES[3]}
FRAMES_PER_SECOND = 100
COMPASS = 19.0
"""Semitones between a singer's lowest and highest note."""


def melody(
    frames: int, rng: np.random.Generator, tonic: float, scale: tuple[int, ...], low: float, beat: float
) -> npt.NDArray[np.float64]:
    """Notes in semitones (MIDI numbers), one for each 10-ms frame, shape ``(frames,)``: steps and small leaps.

    Args:
        frames: how many.
        rng: decides the notes.
        tonic: pitch class of the scale's first note; with a fraction, the tuning.
        scale: semitones above the tonic.
        low: the lowest note that may be sung; the highest is :data:`COMPASS` above.
        beat: seconds a quarter note.
    """
    pitches = pitches_of(tonic, scale, low)
    place, notes = int(rng.integers(len(pitches))), np.empty(0)
    while notes.size < frames:
        length = int(FRAMES_PER_SECOND * beat * rng.choice([0.5, 1.0, 1.0, 2.0, 3.0]))
        notes = np.append(notes, np.full(length, pitches[place]))
        place = int(np.clip(place + rng.integers(-3, 4), 0, len(pitches) - 1))
    return notes[:frames]


def pitches_of(tonic: float, scale: tuple[int, ...], low: float) -> list[float]:
    """Notes of a scale within :data:`COMPASS` above ``low``, rising; the arguments are those of :func:`melody`."""
    tonic = low + (tonic - low) % 12
    pitches = [tonic + 12 * octave + step for octave in (-1, 0, 1) for step in scale]
    return [pitch for pitch in pitches if low <= pitch <= low + COMPASS]


def bend(notes: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Notes as a voice sings them: sliding into each other over 90 ms, with vibrato and a slow drift. In Hz."""
    smooth = np.convolve(np.pad(notes, 4, mode="edge"), np.ones(9) / 9, mode="valid")
    times = np.arange(len(notes)) / FRAMES_PER_SECOND
    vibrato = rng.uniform(0.05, 0.6) * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * times)
    drift = rng.uniform(0.0, 0.25) * np.sin(2 * np.pi * rng.uniform(0.2, 0.8) * times + rng.uniform(0, 6))
    return np.asarray(440.0 * 2 ** ((smooth + vibrato + drift - 69) / 12))
