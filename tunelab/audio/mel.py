"""Log-mel spectrograms, as a bundle's ``preprocessor_config.json`` describes them.

The numbers agree with ``librosa.feature.melspectrogram`` (and, for the published MAEST parameters, with
``transformers.audio_utils.spectrogram``) to 1e-4, but for the last bins where a bundle has ``edge_db``. It is written
with ``scipy.fft`` in float32 because that takes half of librosa's time; the filter bank itself is librosa's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunelab.errors import BundleInvalid
from tunelab.types import FloatArray

# SciPy and librosa are imported where a spectrogram is made: together they take more than a second, and who reads a
# bundle's configuration (the commands, a service's front, the heads) makes none.

_MIN_POWER = 1e-10
_LEAST_PEAK = 0.01
"""Audio is made louder by at most 40 dB: what lies below is noise rather than quiet music."""


class MelConfig(BaseModel):
    """The mel front end of a bundle. Frequencies in Hz, lengths in samples, mean and std in units of the logarithm."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    sampling_rate: Annotated[int, Field(ge=4_000, le=192_000)]
    n_fft: Annotated[int, Field(ge=64, le=16_384)]
    hop_length: Annotated[int, Field(ge=16, le=16_384)]
    win_length: Annotated[int, Field(ge=16, le=16_384)]
    window: Literal["hann"] = "hann"
    center: bool = True
    pad_mode: Literal["constant", "reflect"] = "constant"
    num_mel_bins: Annotated[int, Field(ge=8, le=512)]
    normalize: Literal["none", "peak"] = "none"
    """``peak``: samples are scaled to a peak of 1 first, so that the level of a file does not count."""
    fmin: Annotated[float, Field(ge=0)] = 0.0
    fmax: Annotated[float, Field(gt=0)]
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney"] | None = "slaney"
    power: Annotated[float, Field(ge=1, le=2)] = 2.0
    log: Literal["db", "log10_1p"] = "db"
    """``db``: 10 log10(max(p, 1e-10)), not below ``floor``. ``log10_1p``: log10(1 + ``log_scale`` p)."""
    log_scale: Annotated[float, Field(gt=0)] = 10_000.0
    floor: float = -100.0
    edge_db: tuple[float, ...] = ()
    """What takes the place of the last bins, in dB from the bin before them. Next to half the sampling rate they hold
    what a resampler's filter left of the music, which differs between files of one recording. Empty: nothing."""
    mean: float
    std: Annotated[float, Field(gt=0)]
    max_length: Annotated[int, Field(ge=16, le=100_000)]
    """Frames that the encoder takes."""

    @model_validator(mode="after")
    def _consistent(self) -> MelConfig:
        if self.fmax > self.sampling_rate / 2 or self.fmin >= self.fmax:
            raise ValueError("fmin < fmax <= sampling_rate / 2 must hold")
        if self.win_length > self.n_fft:
            raise ValueError("win_length must not be above n_fft")
        if self.edge_db and (self.log != "db" or len(self.edge_db) >= self.num_mel_bins):
            raise ValueError("edge_db is for log = db, and for fewer bins than there are")
        return self

    @classmethod
    def load(cls, path: Path) -> MelConfig:
        """Read ``preprocessor_config.json``.

        Raises:
            BundleInvalid: it is missing, not JSON, or a value is out of range.
        """
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise BundleInvalid(f"{path.name} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BundleInvalid(f"{path.name}: {where}: {first['msg']}") from error
        except ValueError as error:
            raise BundleInvalid(f"{path.name} is not valid JSON") from error

    @property
    def num_samples(self) -> int:
        """Samples of audio that give exactly ``max_length`` frames."""
        frames = self.max_length - 1 if self.center else self.max_length
        padding = 0 if self.center else self.n_fft - self.hop_length
        return frames * self.hop_length + padding

    @property
    def window_s(self) -> float:
        """Length of one encoder window in seconds."""
        return self.num_samples / self.sampling_rate


class LogMel:
    """Waveform -> standardised log-mel spectrogram.

    Example:
        >>> config = MelConfig(sampling_rate=16000, n_fft=1024, hop_length=256, win_length=1024, num_mel_bins=128,
        ...                    fmax=8000, mean=0.0, std=1.0, max_length=1876)
        >>> LogMel(config)(np.ones(480_000, dtype=np.float32)).shape
        (1876, 128)
    """

    def __init__(self, config: MelConfig) -> None:
        import scipy.fft
        import scipy.signal
        import scipy.sparse

        self.config = config
        self._rfft = scipy.fft.rfft
        window = scipy.signal.get_window(config.window, config.win_length, fftbins=True).astype(np.float32)
        left = (config.n_fft - config.win_length) // 2
        self._window = np.pad(window, (left, config.n_fft - config.win_length - left))
        # Nearly all of it is zeros. And a dense product would start BLAS threads, one for each core, in every process
        # that extracts features, and the last digits of its sums would depend on how many there are.
        self._filters = scipy.sparse.csr_array(_filter_bank(config).T)

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Compute the spectrogram.

        Args:
            samples: mono float32, shape ``(n,)``, at ``config.sampling_rate``.

        Returns:
            float32, shape ``(frames, num_mel_bins)``, standardised with the bundle's mean and std; with centring,
            ``frames`` is ``1 + n // hop_length``.

        Raises:
            ValueError: ``samples`` is not a non-empty one-dimensional array.
        """
        if samples.ndim != 1 or samples.size == 0:
            raise ValueError(f"samples must have shape (n,) with n > 0, not {samples.shape}")
        if self.config.normalize == "peak":
            samples = samples / np.float32(peak_of(samples))
        mel = self.mel_power(samples)
        if self.config.log == "db":
            np.maximum(mel, _MIN_POWER, out=mel)
            np.log10(mel, out=mel)
            mel *= 10.0
            if edge := self.config.edge_db:
                np.add(mel[:, -len(edge) - 1, None], np.array(edge, np.float32), out=mel[:, -len(edge) :])
            np.maximum(mel, self.config.floor, out=mel)
        else:
            mel *= self.config.log_scale
            mel += 1.0
            np.log10(mel, out=mel)
        mel -= self.config.mean
        mel /= self.config.std
        return mel

    def mel_power(self, samples: FloatArray) -> FloatArray:
        """Mel spectrum before the logarithm: float32, shape ``(frames, num_mel_bins)``."""
        config = self.config
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        if config.center:
            half = config.n_fft // 2
            mode: Literal["constant", "reflect"] = "constant" if samples.size <= half else config.pad_mode
            samples = np.pad(samples, half, mode=mode)
        elif samples.size < config.n_fft:
            samples = np.pad(samples, (0, config.n_fft - samples.size))
        frames = np.lib.stride_tricks.sliding_window_view(samples, config.n_fft)[:: config.hop_length]
        spectrum = self._rfft(frames * self._window, axis=1)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        if config.power != 2.0:
            np.power(power, config.power / 2.0, out=power)
        mel: FloatArray = np.ascontiguousarray(power @ self._filters)
        return mel


def peak_of(samples: FloatArray) -> float:
    """What ``normalize: peak`` divides by: the largest absolute sample, but not less than -40 dB of full scale."""
    return max(float(samples.max()), -float(samples.min()), _LEAST_PEAK)


def _filter_bank(config: MelConfig) -> FloatArray:
    """Triangular filters, float32, shape ``(num_mel_bins, n_fft // 2 + 1)``."""
    from librosa.filters import mel

    filters: FloatArray = mel(
        sr=config.sampling_rate,
        n_fft=config.n_fft,
        n_mels=config.num_mel_bins,
        fmin=config.fmin,
        fmax=config.fmax,
        htk=config.mel_scale == "htk",
        norm=config.mel_norm,
        dtype=np.float32,
    )
    return filters
