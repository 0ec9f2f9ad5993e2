"""A whole track: a file's bytes (or its path) -> log-mel windows, one after the other from its start to its end."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tunelab.audio.decode import SILENCE, DecodeLimits, decode_track
from tunelab.audio.mel import LogMel, MelConfig, peak_of
from tunelab.audio.window import fit_window
from tunelab.types import SILENCE_STEP_S, FloatArray, Outline, TrackFeatures


class TrackExtractor:
    """Decodes a whole track and computes the log-mel spectrogram of each of its windows.

    Where one window ends the next begins; the last one ends with the track. A track shorter than a window is repeated
    to fill one. At its ends, a window's transform sees what comes before and after it in the track.

    If the bundle scales samples to a peak of 1, it is the peak of the whole track. Were each window scaled by its own,
    the same music would get other scores where something louder is in the same window.

    Args:
        config: the bundle's mel front end.
        limits: what is refused before and while decoding.
    """

    def __init__(self, config: MelConfig, limits: DecodeLimits | None = None) -> None:
        self.config = config
        self.limits = limits or DecodeLimits()
        self._log_mel = LogMel(config.model_copy(update={"center": False, "normalize": "none"}))

    def __call__(self, source: bytes | str | os.PathLike[str], max_s: float = float("inf")) -> TrackFeatures:
        """Decode a file and compute its windows.

        Memory: the samples (77 MB for 20 minutes at 16 kHz) and the windows (38 MB at 128 bands).

        Args:
            source: bytes of a file, or its path.
            max_s: refuse longer tracks, in seconds, beside what the limits say.

        Raises:
            AudioError: the file is at fault.
            OSError: ``source`` is a path that cannot be read.
        """
        limits = replace(self.limits, max_duration_s=min(self.limits.max_duration_s, max_s))
        return self.from_samples(decode_track(source, sample_rate=self.config.sampling_rate, limits=limits).samples)

    def from_samples(self, samples: FloatArray) -> TrackFeatures:
        """Mono float32 ``(n,)``, n >= 1, at the bundle's sampling rate -> its windows.

        Raises:
            EmptyAudio: there are no samples.
        """
        config = self.config
        filled = samples if samples.size >= config.num_samples else fit_window(samples, config.num_samples)
        starts = window_starts(filled.size, config.num_samples)
        scale = peak_of(samples) if config.normalize == "peak" else 1.0
        mels = np.empty((len(starts), config.max_length, config.num_mel_bins), dtype=np.float32)
        for number, start in enumerate(starts):
            mels[number] = self._window(filled, start, scale)
        outline = Outline(
            starts_s=tuple(start / config.sampling_rate for start in starts),
            duration_s=samples.size / config.sampling_rate,
            silent=_silent(samples, config.sampling_rate),
        )
        return TrackFeatures(mels, outline)

    def _window(self, samples: FloatArray, start: int, scale: float) -> FloatArray:
        config = self.config
        margin = config.n_fft // 2 if config.center else 0
        begin, end = start - margin, start + config.num_samples + margin
        window = samples[max(0, begin) : end]
        missing = max(0, -begin), max(0, end - samples.size)
        if any(missing):
            window = np.pad(window, missing, mode=config.pad_mode)
        return self._log_mel(window if scale == 1.0 else window / np.float32(scale))


def window_starts(samples: int, length: int) -> list[int]:
    """Where windows of ``length`` begin so that they cover ``samples``, at least as many: one after the other, the last
    one at the end.
    """
    return [*range(0, samples - length, length), samples - length]


def _silent(samples: FloatArray, sample_rate: int) -> npt.NDArray[np.bool_]:
    """Which steps of :data:`SILENCE_STEP_S` are digital silence; the last may be shorter."""
    step = max(1, round(SILENCE_STEP_S * sample_rate))
    begins = np.arange(0, samples.size, step)
    peaks = np.maximum(np.maximum.reduceat(samples, begins), -np.minimum.reduceat(samples, begins))
    silent: npt.NDArray[np.bool_] = peaks < SILENCE
    return silent
