"""What is done to the tone of a clip: a smooth gain curve, and an upper end of the band."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunelab.training.voice import SAMPLE_RATE
from tunelab.types import FloatArray

EQUALISER_HZ = (60.0, 250.0, 1000.0, 3000.0, 7500.0)


def equalise(samples: FloatArray, decibels: npt.NDArray[np.float64]) -> FloatArray:
    """Apply a smooth gain curve: ``decibels`` at :data:`EQUALISER_HZ`, linear in log-frequency between them."""
    spectrum = np.fft.rfft(samples)
    hertz = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), 1.0)
    spectrum *= 10 ** (np.interp(np.log(hertz), np.log(EQUALISER_HZ), decibels) / 20)
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def end_band(samples: FloatArray, hertz: float) -> FloatArray:
    """Take away what is above ``hertz``, over 100 Hz, and scale to a peak of 1, as the front end does with a file."""
    spectrum = np.fft.rfft(samples)
    place = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    spectrum *= np.clip((hertz - place) / 100.0 + 0.5, 0.0, 1.0)
    ended: FloatArray = np.fft.irfft(spectrum, len(samples)).astype(np.float32)
    return ended / np.float32(max(float(np.abs(ended).max()), 1e-6))
