"""What is done to the tone of a clip: a smooth gain curve, an upper end of the band, and what recordings have.

Free game music is mostly made inside a computer, dry and clean; people's records were played in rooms, through
amplifiers and onto tapes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunelab.training.voice import SAMPLE_RATE, reverberate, rms
from tunelab.types import FloatArray

EQUALISER_HZ = (60.0, 250.0, 1000.0, 3000.0, 7500.0)
ROOM, DRIVEN, HISS = 0.25, 0.15, 0.15
"""How often music gets a room, an amplifier's saturation, a tape's hiss."""
DRIVE = (0.5, 4.0)
"""How far an amplifier is driven: the loudest sample is so many times the level at which it begins to bend."""
HISS_DB = (-55.0, -25.0)
"""Level of the hiss over the music."""


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


def as_recorded(music: FloatArray, rng: np.random.Generator, *, driven: float = DRIVEN) -> FloatArray:
    """Music in a room, through an amplifier, with hiss, each now and then; the same shape, and about the same level.

    Args:
        music: float32, shape ``(n,)``, 16 kHz.
        rng: decides what is done, and how much.
        driven: how often it goes through a driven amplifier.
    """
    if rng.random() < driven:
        music = saturate(music, rng.uniform(*DRIVE))
    if rng.random() < ROOM:
        music = reverberate(music, rng)
    if rng.random() < HISS:
        noise = rng.normal(size=len(music)) * rms(music) * 10 ** (rng.uniform(*HISS_DB) / 20)
        music = music + equalise(noise.astype(np.float32), rng.uniform(-9, 9, len(EQUALISER_HZ)))
    return music


def saturate(samples: FloatArray, drive: float) -> FloatArray:
    """Bend the loud parts as an amplifier does (hyperbolic tangent), as far as the peak is driven; RMS as before."""
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-9)
    bent: FloatArray = np.tanh(samples * np.float32(drive / peak))
    return bent * np.float32(rms(samples) / max(rms(bent), 1e-9))
