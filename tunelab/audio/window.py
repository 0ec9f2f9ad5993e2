"""Make audio of any length exactly one encoder window long."""

from __future__ import annotations

import numpy as np

from tunelab.errors import EmptyAudio
from tunelab.types import FloatArray


def fit_window(samples: FloatArray, length: int) -> FloatArray:
    """Tile audio that is shorter than ``length``, cut the middle out of audio that is longer.

    Tiling repeats the audio from its start; the last repetition is cut off.

    Args:
        samples: float32, shape ``(n,)``, n >= 1.
        length: samples wanted, at least 1.

    Returns:
        float32, shape ``(length,)``. It shares memory with ``samples`` where nothing has to be repeated.

    Raises:
        EmptyAudio: there are no samples.
        ValueError: ``samples`` is not one-dimensional, or ``length`` is below 1.

    Example:
        >>> fit_window(np.arange(3, dtype=np.float32), 7)
        array([0., 1., 2., 0., 1., 2., 0.], dtype=float32)
    """
    if samples.ndim != 1:
        raise ValueError(f"samples must have shape (n,), not {samples.shape}")
    if length < 1:
        raise ValueError(f"length must be at least 1, not {length}")
    if samples.size == 0:
        raise EmptyAudio("there are no samples")
    if samples.size >= length:
        begin = (samples.size - length) // 2
        return samples[begin : begin + length]
    return np.resize(samples, length)
