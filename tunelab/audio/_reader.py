"""What every format's reader offers to :func:`tunelab.audio.decode.decode`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tunelab.types import FloatArray

CHUNK_VALUES = 1 << 20
"""Samples (frames x channels) decoded at once: the bound on memory, and the time between two looks at the clock."""


class Reader(Protocol):
    """One opened file. A frame is one sample of every channel.

    Attributes:
        sample_rate: of the file, in Hz.
        frames: length of the track in frames as the header (or a scan of the file) tells; ``None``: it does not.
    """

    sample_rate: int
    frames: int | None

    def read(self, start: int, count: int) -> FloatArray:
        """Decode frames ``start`` to ``start + count`` and mix them down.

        Returns:
            float32, shape ``(n,)``, the mean of the channels. ``n < count`` where the file ends or breaks off.

        Raises:
            AudioError: the file is at fault.
        """
        ...

    def count(self, limit: int) -> int:
        """Frames that can really be read, found without trusting the header; it stops soon after ``limit``.

        Raises:
            AudioError: the file is at fault.
        """
        ...

    def close(self) -> None:
        """Free what the reader holds; the source stays open."""
        ...


def allow_broken_floats() -> np.errstate:
    """No warnings of NaN and overflows, which broken float files hold; decode() looks for them afterwards."""
    return np.errstate(over="ignore", invalid="ignore")


def mix_down(frames: npt.NDArray[Any]) -> FloatArray:
    """Mean over the channels: shape ``(n, channels)`` -> ``(n,)``."""
    channels = frames.shape[1]
    with allow_broken_floats():
        mono: FloatArray
        if channels == 1:
            mono = frames[:, 0]
        elif channels == 2:  # five times faster than a mean over the short axis
            mono = frames[:, 0] + frames[:, 1]
            mono *= 0.5
        else:
            mono = frames @ np.full(channels, 1.0 / channels, dtype=np.float32)
    return mono


def mix_planes(planes: list[FloatArray]) -> FloatArray:
    """Mean over the channels, each an array of its own of shape ``(n,)``; not a copy if there is but one."""
    if len(planes) == 1:
        return planes[0]
    mono = planes[0] + planes[1]
    for plane in planes[2:]:
        mono += plane
    mono *= np.float32(1.0 / len(planes))
    return mono


def join(parts: list[FloatArray]) -> FloatArray:
    """Concatenate, also nothing."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
