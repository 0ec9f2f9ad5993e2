"""Voice that free music lacks: joined speech, speech or singing over music, and speech re-pitched onto melodies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.signal
from scipy.ndimage import uniform_filter1d

from tunelab.training.melody import FRAMES_PER_SECOND, PENTATONIC, SCALES, bend, melody
from tunelab.types import FloatArray

SAMPLE_RATE = 16_000


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


@dataclass(frozen=True, slots=True)
class Vocal:
    """Speech taken apart by the WORLD vocoder, one row for each 10 ms.

    Attributes:
        voiced: bool, shape ``(frames,)``: where a pitch can be sung.
        hertz: the speaker's own pitch, shape ``(frames,)``, 0 where none is heard.
        envelope: spectral envelope, shape ``(frames, 513)``; ``noise`` likewise, the aperiodic share.
        noise: see there.
    """

    voiced: npt.NDArray[np.bool_]
    hertz: npt.NDArray[np.float64]
    envelope: npt.NDArray[np.float64]
    noise: npt.NDArray[np.float64]


def take_apart(speech: FloatArray) -> Vocal:
    """Speech, float32 ``(n,)`` at 16 kHz, to what :func:`put_together` makes a voice of again."""
    import pyworld

    samples = speech.astype(np.float64)
    f0, times = pyworld.dio(samples, SAMPLE_RATE, frame_period=10.0)
    envelope = pyworld.cheaptrick(samples, f0, times, SAMPLE_RATE, fft_size=1024)
    noise = pyworld.d4c(samples, f0, times, SAMPLE_RATE, fft_size=1024)
    return Vocal(np.convolve(f0 > 0, np.ones(5) / 5, mode="same") > 0.3, f0, envelope, noise)


def sing(vocal: Vocal, rng: np.random.Generator, key: tuple[float, tuple[int, ...]] | None = None) -> FloatArray:
    """The words of ``vocal`` on a random melody, with vibrato, by the WORLD vocoder.

    Vowels are stretched, consonants hardly. In a third of the cases a second voice joins: the same notes a little
    later, a third above or an octave below.

    Args:
        vocal: whose words.
        rng: decides register, scale, note lengths, vibrato and stretch.
        key: tonic (semitones above C, with the tuning as the fraction) and scale; by default drawn at random.

    Returns:
        float32, at 16 kHz, some 1.1 to 2.4 times as long as the speech was.
    """
    scale = SCALES[int(rng.integers(len(SCALES)))] if key is None else key[1]
    tonic = float(rng.uniform(0, 12)) if key is None else key[0]
    if rng.random() < 0.4:
        scale = PENTATONIC.get(scale, scale)
    longer = np.where(vocal.voiced, rng.uniform(1.3, 2.6), rng.uniform(0.9, 1.2))
    index = np.searchsorted(np.cumsum(longer), np.arange(int(longer.sum()))).clip(0, len(longer) - 1)
    low = float(rng.uniform(42, 62))
    notes = melody(len(index), rng, tonic, scale, low, float(rng.uniform(0.25, 0.7)))
    breath, formant = float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.88, 1.18))
    sung = put_together(vocal, index, bend(notes, rng), breath, formant)
    if rng.random() < 1 / 3:
        others = (notes, notes, _third_above(notes, tonic, scale), notes - 12)
        other = others[int(rng.integers(len(others)))]
        second = put_together(vocal, index, bend(other, rng), breath, formant * float(rng.uniform(0.95, 1.05)))
        late = int(rng.uniform(0.005, 0.04) * SAMPLE_RATE)
        sung[late:] += np.float32(rng.uniform(0.3, 0.9)) * second[: len(sung) - late]
    return compress(sung, float(rng.uniform(0.0, 0.6)))


def _third_above(notes: npt.NDArray[np.float64], tonic: float, scale: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Each note raised by two steps of its scale, a third in those of seven notes."""
    size = len(scale)
    places = np.array(scale)
    octave, semitone = np.divmod(np.round(notes - tonic, 6), 12)
    step = np.abs(places[None] - semitone[:, None]).argmin(1) + 2
    return np.asarray(tonic + 12 * (octave + step // size) + places[step % size], np.float64)


def put_together(
    vocal: Vocal, index: npt.NDArray[np.int64], pitch: npt.NDArray[np.float64], breath: float, formant: float
) -> FloatArray:
    """A voice from frames of ``vocal``, by the WORLD vocoder.

    Args:
        vocal: where the frames are from.
        index: of the frame that is heard in each 10 ms, shape ``(n,)``.
        pitch: in Hz, shape ``(n,)``; it counts where that frame is voiced.
        breath: factor of the noise in voiced frames.
        formant: factor of the formants' frequencies.

    Returns:
        float32, at 16 kHz, ``n`` times 10 ms.
    """
    import pyworld

    voiced = vocal.voiced[index]
    noise = np.where(voiced[:, None], vocal.noise[index] * breath, vocal.noise[index])
    width = vocal.envelope.shape[1]
    bins = np.minimum(np.arange(width) / formant, width - 1).astype(int)
    envelope = np.ascontiguousarray(vocal.envelope[index][:, bins])
    sung = pyworld.synthesize(
        np.where(voiced, pitch, 0.0), envelope, np.ascontiguousarray(noise), SAMPLE_RATE, 1000 / FRAMES_PER_SECOND
    )
    return np.asarray(sung, np.float32)


def compress(samples: FloatArray, share: float) -> FloatArray:
    """Even out the level over 50 ms: ``share`` 0 leaves it, 1 makes it constant where there is any. RMS as before."""
    width = SAMPLE_RATE // 20
    level = np.sqrt(np.maximum(uniform_filter1d(np.square(samples, dtype=np.float64), width), 0.0))
    floor = 0.03 * max(float(level.max(initial=0.0)), 1e-9)
    evened: FloatArray = (samples * np.maximum(level, floor) ** -share).astype(np.float32)
    return evened * np.float32(rms(samples) / max(rms(evened), 1e-9))
