"""The first stage: a file's bytes (or its path) -> the log-mel window that the encoder takes."""

from __future__ import annotations

import os

from tunelab.audio.decode import DecodeLimits, decode
from tunelab.audio.mel import LogMel, MelConfig
from tunelab.audio.window import fit_window
from tunelab.types import Features, FloatArray


class MelExtractor:
    """Decodes the middle of a track and computes its log-mel spectrogram.

    Args:
        config: the bundle's mel front end; it also decides the sampling rate and the window's length.
        limits: what is refused before and while decoding.
    """

    def __init__(self, config: MelConfig, limits: DecodeLimits | None = None) -> None:
        self.config = config
        self.limits = limits or DecodeLimits()
        self._log_mel = LogMel(config)

    def __call__(self, source: bytes | str | os.PathLike[str]) -> Features:
        """Decode a file and compute the features of its middle window.

        Raises:
            AudioError: the file is at fault.
            OSError: ``source`` is a path that cannot be read.
        """
        waveform = decode(
            source, sample_rate=self.config.sampling_rate, window_s=self.config.window_s, limits=self.limits
        )
        return Features(mel=self.from_samples(waveform.samples), duration_s=waveform.duration_s)

    def from_samples(self, samples: FloatArray) -> FloatArray:
        """Mono float32 ``(n,)`` at the bundle's sampling rate -> float32 ``(max_length, num_mel_bins)``.

        Shorter audio is tiled, longer audio cut to its middle.
        """
        return self._log_mel(fit_window(samples, self.config.num_samples))
