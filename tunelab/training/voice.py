"""Voice that free music lacks: joined speech, speech or singing over music, and speech re-pitched onto melodies."""

from __future__ import annotations

import numpy as np
import scipy.signal

from tunelab.types import FloatArray

SAMPLE_RATE = 16_000
SCALES: tuple[tuple[int, ...], ...] = (
    (0, 2, 4, 5, 7, 9, 11),
    (0, 2, 3, 5, 7, 8, 10),
    (0, 2, 4, 7, 9),
    (0, 3, 5, 7, 10),
)
"""Major, natural minor, and both pentatonics, in semitones above the tonic."""


def rms(samples: FloatArray) -> float:
    """Root mean square over the samples that are not near silence (above 1 % of the peak)."""
    loud = samples[np.abs(samples) > 0.01 * max(float(np.abs(samples).max(initial=0.0)), 1e-9)]
    return float(np.sqrt(np.mean(np.square(loud, dtype=np.float64)))) if loud.size else 0.0


def mix(music: FloatArray, voice: FloatArray, voice_db: float) -> FloatArray:
    """Add ``voice`` to ``music`` so that its level is ``voice_db`` decibels above the music's.

    Args:
        music: float32, shape ``(n,)``.
        voice: float32, shape ``(n,)``.
        voice_db: level of the voice over the music in dB, both measured by :func:`rms`.
    """
    under, over = rms(music), rms(voice)
    if under == 0.0 or over == 0.0:
        return music + voice
    return music + voice * np.float32(under / over * 10 ** (voice_db / 20))


def reverberate(voice: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Put a voice into a room: noise that decays in 0.3 to 2 s, early sound kept. The same shape and RMS as before."""
    decay_s = rng.uniform(0.3, 2.0)
    times = np.arange(int(decay_s * SAMPLE_RATE)) / SAMPLE_RATE
    # 60 dB down at the end.
    room = rng.normal(size=len(times)) * 10 ** (-3 * times / decay_s)
    room *= rng.uniform(0.2, 0.9) / np.sqrt(np.square(room).sum())
    room[0] += 1.0
    wet: FloatArray = scipy.signal.fftconvolve(voice, room)[: len(voice)].astype(np.float32)
    wet *= np.float32(rms(voice) / max(rms(wet), 1e-9))
    return wet


def sing(speech: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Speech -> the same words on a random scale melody, with vibrato, by the WORLD vocoder.

    Args:
        speech: float32, shape ``(n,)``, 16 kHz.
        rng: decides register, scale, note lengths, vibrato and stretch.

    Returns:
        float32, about ``n`` times 1.2..1.9 samples long: sung vowels are longer than spoken ones.
    """
    import pyworld

    samples = speech.astype(np.float64)
    f0, times = pyworld.dio(samples, SAMPLE_RATE, frame_period=10.0)
    envelope = pyworld.cheaptrick(samples, f0, times, SAMPLE_RATE, fft_size=1024)
    noise = pyworld.d4c(samples, f0, times, SAMPLE_RATE, fft_size=1024)
    stretch = rng.uniform(1.2, 1.9)
    index = np.minimum((np.arange(int(len(f0) * stretch)) / stretch).astype(int), len(f0) - 1)
    f0, envelope, noise = f0[index], envelope[index], noise[index]
    melody = _melody(len(f0), rng)
    voiced = np.convolve(f0 > 0, np.ones(5) / 5, mode="same") > 0.3
    pitch = np.where(voiced, melody, 0.0)
    noise = np.where(voiced[:, None], noise * 0.6, noise)
    formant = rng.uniform(0.9, 1.15)
    bins = np.minimum(np.arange(envelope.shape[1]) / formant, envelope.shape[1] - 1).astype(int)
    sung = pyworld.synthesize(
        pitch, np.ascontiguousarray(envelope[:, bins]), np.ascontiguousarray(noise), SAMPLE_RATE, 10.0
    )
    samples_sung: FloatArray = sung.astype(np.float32)
    return samples_sung


def _melody(frames: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Pitch in Hz for each 10-ms frame."""
    scale = SCALES[int(rng.integers(len(SCALES)))]
    tonic = rng.uniform(45, 62)
    beat = rng.uniform(0.25, 0.6)
    degree, notes = int(rng.integers(0, 7)), np.empty(0)
    while notes.size < frames:
        length = int(100 * beat * rng.choice([0.5, 1.0, 1.0, 2.0, 3.0]))
        octave, step = divmod(degree, len(scale))
        notes = np.append(notes, np.full(length, tonic + 12 * octave + scale[step]))
        degree = int(np.clip(degree + rng.integers(-3, 4), 0, 11))
    smooth = np.convolve(np.pad(notes[:frames], 4, mode="edge"), np.ones(9) / 9, mode="valid")
    vibrato = rng.uniform(0.1, 0.6) * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * np.arange(frames) / 100)
    return np.asarray(440.0 * 2 ** ((smooth + vibrato - 69) / 12))
