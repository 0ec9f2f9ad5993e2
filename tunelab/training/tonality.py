"""Keys: which pitch classes sound, and the major or minor scale that they fit best."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.signal

from tunelab.types import FloatArray

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
"""Semitones above the tonic; minor is the natural one."""
TONAL_COLUMNS = 13
"""Twelve pitch classes from C on, and major against minor."""
_PROFILES: dict[tuple[int, ...], tuple[float, ...]] = {
    MAJOR: (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    MINOR: (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
"""How well each semitone above the tonic fits a key: the probe-tone ratings of Krumhansl and Kessler (1982)."""
_WINDOW, _HOP = 4096, 2048
_PHRASE_ROWS = 15
"""Rows that a mode is heard over: a chord alone has none."""


def pitch_classes(samples: FloatArray, rate: int, tuning: float = 0.0) -> npt.NDArray[np.float64]:
    """Mean magnitude of each pitch class from C on, 80 Hz to 1.7 kHz, shape ``(12,)``; its sum is 1 (0 of silence).

    Args:
        samples: float32, shape ``(n,)``.
        rate: in Hz.
        tuning: semitones that the music lies above A = 440 Hz.
    """
    energy = _chroma(samples, rate, tuning).mean(1)
    return np.asarray(energy / max(float(energy.sum()), 1e-12))


def tuning_of(samples: FloatArray, rate: int) -> float:
    """Semitones that music lies above A = 440 Hz, -0.5..0.5; 0 where nothing is heard that has a pitch.

    The mean of the places that spectral peaks have between two semitones, as angles, each as loud as it is.
    """
    hertz, _, spectrum = scipy.signal.stft(samples, rate, nperseg=_WINDOW, noverlap=0)
    level = np.abs(spectrum)
    middle, below, above = level[1:-1], level[:-2], level[2:]
    peak = (middle > below) & (middle > above) & (hertz[1:-1, None] > 200) & (hertz[1:-1, None] < 1700)
    row, column = np.nonzero(peak & (middle > 0.05 * level.max(initial=0.0)))
    # Through the three bins of a peak goes a parabola; of a Hann window's decibels that is near the truth.
    left, top, right = (np.log(part[row, column] + 1e-12) for part in (below, middle, above))
    exact = (row + 1 + 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-9)) * hertz[1]
    turn = np.sum(middle[row, column] * np.exp(2j * np.pi * 12 * np.log2(exact / 440.0)))
    return float(np.angle(turn) / (2 * np.pi))


def key_of(samples: FloatArray, rate: int) -> tuple[float, tuple[int, ...]]:
    """The tonic and the scale, :data:`MAJOR` or :data:`MINOR`, whose profile fits best.

    Args:
        samples: float32, shape ``(n,)``, of at least 0.3 s.
        rate: in Hz.

    Returns:
        Semitones above C (at A = 440 Hz) in -0.5..11.5, with the music's tuning as the fraction; and the scale.
    """
    tuning = tuning_of(samples, rate)
    energy = pitch_classes(samples, rate, tuning) + 1e-12 * np.arange(12)
    scale = max(_PROFILES, key=lambda scale: fits(energy[None], scale).max())
    return int(fits(energy[None], scale)[0].argmax()) + tuning, scale


def fits(energies: npt.NDArray[np.float64], scale: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Correlation -1..1 of pitch classes ``(n, 12)`` with a scale's profile on each tonic, shape ``(n, 12)``."""
    turned = np.stack([np.roll(_PROFILES[scale], tonic) for tonic in range(12)])
    profiles = (turned - turned.mean(1, keepdims=True)) / turned.std(1, keepdims=True)
    spread = np.maximum(energies.std(1, keepdims=True), 1e-12)
    correlations: npt.NDArray[np.float64] = (energies - energies.mean(1, keepdims=True)) / spread @ profiles.T / 12
    return correlations


def tonal_rows(samples: FloatArray, rate: int, rows: int, step: int) -> FloatArray:
    """What is heard of the key, row by row, at A = 440 Hz: of music tuned otherwise a class spills into the next.

    Args:
        samples: float32, shape ``(n,)``.
        rate: in Hz.
        rows: how many; ``n`` is at least ``rows * step``.
        step: samples a row, a multiple of 2,048.

    Returns:
        Shape ``(rows, 13)``: the square root of each pitch class's share of the row (all alike where nothing sounds),
        and how much better the best major key fits the phrase around the row than the best minor key, -2..2.
    """
    chroma = _chroma(samples[: rows * step], rate)[:, : rows * step // _HOP]
    energies = chroma.reshape(12, rows, -1).mean(2).T
    quiet = 1e-3 * max(float(energies.max()), 1e-9)
    shares = (energies + quiet) / (energies + quiet).sum(1, keepdims=True)
    phrases = scipy.ndimage.uniform_filter1d(energies, _PHRASE_ROWS, axis=0, mode="nearest")
    mode = fits(phrases, MAJOR).max(1) - fits(phrases, MINOR).max(1)
    return np.column_stack([np.sqrt(shares), mode]).astype(np.float32)


def _chroma(samples: FloatArray, rate: int, tuning: float = 0.0) -> npt.NDArray[np.float64]:
    """Magnitude of each pitch class over time, shape ``(12, frames)``."""
    hertz, _, spectrum = scipy.signal.stft(samples, rate, nperseg=_WINDOW, noverlap=_WINDOW - _HOP)
    inside = (hertz >= 80) & (hertz <= 1700)
    notes = np.round(12 * np.log2(hertz[inside] / 440.0) + 69 - tuning).astype(int) % 12
    members = (notes == np.arange(12)[:, None]).astype(np.float64)
    chroma: npt.NDArray[np.float64] = (members / members.sum(1, keepdims=True)) @ np.abs(spectrum[inside])
    return chroma
