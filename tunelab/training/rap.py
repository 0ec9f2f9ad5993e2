"""Speech spoken in time with the music beneath, as in rap: syllables begin on the sixteenths of its beats."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal
from scipy.ndimage import uniform_filter1d

from tunelab.training.melody import FRAMES_PER_SECOND
from tunelab.training.voice import SAMPLE_RATE, Vocal, compress, put_together
from tunelab.types import FloatArray

CELLS = 4
"""Places for a syllable in each beat."""
LEAST_BEATS = 8
"""With fewer beats than this in a clip, words follow a steady beat of their own."""
SYLLABLE_FRAMES, RISE_FRAMES, RISE_DB = 12, 4, 3.0
"""Syllables are at least 120 ms apart; where one begins, the level rises by 3 dB in 40 ms."""
BAR = 16
"""Cells of four beats: a line is one or two bars long."""


def beats_of(music: FloatArray, rate: int) -> npt.NDArray[np.float64]:
    """Times of the beats in seconds, shape ``(beats,)``, as librosa's tracker hears them (Ellis 2007).

    Args:
        music: float32, shape ``(n,)``.
        rate: in Hz.
    """
    from librosa.beat import beat_track

    _, beats = beat_track(y=music, sr=rate, units="time")
    return np.asarray(beats, np.float64)


def compile_ahead() -> None:
    """Have the tracker compiled before several processes need it.

    Those that compile it at once spoil the files in which the result is kept, and whoever reads these later crashes.
    """
    beats_of(np.random.default_rng(0).normal(size=48_000).astype(np.float32), 16_000)


def grid_of(beats: npt.NDArray[np.float64], seconds: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Frames at which a syllable may begin: each beat's :data:`CELLS` parts, up to ``seconds``; rising.

    Args:
        beats: as :func:`beats_of` gives them.
        seconds: length of the clip.
        rng: decides tempo (70 to 110 beats a minute) and start where there are too few beats; and whether a quick
            beat is taken as its half.
    """
    if len(beats) < LEAST_BEATS:
        beats = np.arange(rng.uniform(0, 0.5), seconds, 60 / rng.uniform(70, 110))
    elif np.diff(beats).mean() < 60 / 125:
        beats = beats[int(rng.integers(2)) :: 2]
    places = np.arange(CELLS * (len(beats) - 1) + 1) / CELLS
    frames = np.round(np.interp(places, np.arange(len(beats)), beats) * FRAMES_PER_SECOND).astype(np.int64)
    return frames[frames <= int(seconds * FRAMES_PER_SECOND)]


def syllables_of(vocal: Vocal) -> npt.NDArray[np.int64]:
    """Frames at which syllables begin, and the last frame; rising, at least two."""
    level = 10 * np.log10(vocal.envelope.mean(1) + 1e-12)
    level = np.maximum(level, level.max(initial=-120.0) - 40)
    rise = level[RISE_FRAMES:] - level[:-RISE_FRAMES]
    peaks, _ = scipy.signal.find_peaks(rise, height=RISE_DB, distance=SYLLABLE_FRAMES)
    inner = peaks[(peaks > 0) & (peaks < len(level) - 1)]
    return np.concatenate([[0], inner, [len(level) - 1]]).astype(np.int64)


def rap(vocal: Vocal, rng: np.random.Generator, grid: npt.NDArray[np.int64]) -> FloatArray:
    """The words of ``vocal``, each syllable beginning on a place of ``grid``, by the WORLD vocoder.

    A syllable takes as many cells as come nearest to its own length, at a pace that makes most of them one or two
    cells long. Lines of one or two bars end in a rest. The pitch is the speaker's own, flatter. In a quarter of the
    cases the voice is doubled.

    Args:
        vocal: whose words; they are repeated until the grid ends.
        rng: decides pace, rests, register and doubling.
        grid: rising frames, at least two.

    Returns:
        float32, at 16 kHz, as long as the grid's last frame says; silent before its first.
    """
    starts = syllables_of(vocal)
    pairs = list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
    typical = float(np.median(np.diff(starts)))
    pace = float(np.median(np.diff(grid))) * rng.uniform(1.0, 1.9) / typical
    index, heard = np.zeros(int(grid[-1]), np.int64), np.zeros(int(grid[-1]), bool)
    line, rest = BAR * int(rng.integers(1, 3)), int(rng.integers(1, 6))
    cell, turn = 0, int(rng.integers(len(pairs)))
    while cell < len(grid) - 1:
        if cell % line >= line - rest:
            cell += 1
            continue
        begin, end = pairs[turn % len(pairs)]
        wanted = (end - begin) * pace / max(int(grid[cell + 1] - grid[cell]), 1)
        cells = min(int(np.clip(round(wanted), 1, CELLS)), line - rest - cell % line, len(grid) - 1 - cell)
        first, last = int(grid[cell]), int(grid[cell + cells])
        index[first:last] = np.linspace(begin, end, last - first, endpoint=False).astype(np.int64)
        heard[first:last] = True
        cell, turn = cell + cells, turn + 1
    middle = float(np.median(vocal.hertz[vocal.hertz > 0])) if (vocal.hertz > 0).any() else 120.0
    hertz = np.where(vocal.hertz > 0, vocal.hertz, middle)
    pitch = middle * float(rng.uniform(0.85, 1.15)) * (hertz / middle) ** float(rng.uniform(0.3, 0.9))
    formant = float(rng.uniform(0.92, 1.12))
    spoken = put_together(vocal, index, pitch[index], 1.0, formant)
    if rng.random() < 0.25:
        late = int(rng.uniform(0.01, 0.035) * SAMPLE_RATE)
        again = put_together(vocal, index, pitch[index] * float(rng.uniform(0.97, 1.03)), 1.0, formant * 1.03)
        spoken[late:] += np.float32(rng.uniform(0.3, 0.8)) * again[: len(spoken) - late]
    frame = SAMPLE_RATE // FRAMES_PER_SECOND
    # Over 10 ms, or every rest would begin with a click.
    mask = uniform_filter1d(np.repeat(heard, frame).astype(np.float32), frame)
    spoken = spoken[: len(mask)] * mask[: len(spoken)]
    return compress(spoken, float(rng.uniform(0.2, 0.7)))
