"""Embeddings along a window: one for each time column of the encoder's patches.

The encoder's attention spreads over its whole window, and after a few blocks every patch tells more of the window than
of its own place: read as it is, a column would hardly differ from the window's mean. So for columns each patch attends
only to those within :data:`CONTEXT_S` of it, by a bias that is added to the attention's scores; the weights stay the
same.

A few columns say little of what sounds in them even so: the encoder has learnt to keep other things at their positions
(Darcet et al., "Vision Transformers Need Registers", ICLR 2024, describe it for images). A window in which nothing
changes shows which, and what lies beside them stands in for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunelab.encoder.bundle import Bundle
from tunelab.encoder.engine import Engine
from tunelab.errors import TimelineUnsupported
from tunelab.types import FloatArray

CONTEXT_S = 2.0
"""How far to each side a patch sees. With 8 columns of 0.256 s this is the length of the crops, 17 columns, on which
``tunelab-v1`` was trained; see ``docs/guides/timeline.md`` for what other lengths give."""
_SPECIAL = 2
"""Class and distillation token."""
_NEVER = -1e9
_SLOPE = 1.5
"""Level of the lowest and, negated, of the highest band of the steady window, in standard deviations: as music has."""
_FAR = 5.0
"""Times the median distance from the median column; ``python -m benchmarks.timeline`` tells how many lie beyond."""


@dataclass(frozen=True, slots=True)
class ColumnGrid:
    """Where in a window the time columns of patches lie.

    Attributes:
        rows: patches along frequency.
        count: columns.
        first_s: middle of the first column, in seconds from where the window begins.
        step_s: from one column to the next.
        context: columns to each side that a patch attends to.
    """

    rows: int
    count: int
    first_s: float
    step_s: float
    context: int

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        """Middles of the columns in seconds, shape ``(count,)``."""
        return self.first_s + self.step_s * np.arange(self.count, dtype=np.float64)

    @property
    def tokens(self) -> int:
        """Tokens of one window."""
        return _SPECIAL + self.rows * self.count


def column_grid(bundle: Bundle) -> ColumnGrid:
    """The columns of a bundle's windows.

    Raises:
        TimelineUnsupported: its embedding is not the mean of the patches.
    """
    if bundle.pooling.pooling != "mean":
        raise TimelineUnsupported(
            f"{bundle.name} reads its embedding from one token of the window, which has no course over time"
        )
    shape, mel, stride = bundle.shape, bundle.mel, bundle.pooling.time_patch_stride
    columns = (mel.max_length - shape.patch_size) // shape.time_stride + 1
    frame_s = mel.hop_length / mel.sampling_rate
    step_s = stride * shape.time_stride * frame_s
    # The middle of frame 0 is the window's first sample, or, without centring, half a transform later.
    first_s = (shape.patch_size - 1) / 2 * frame_s + (0.0 if mel.center else mel.n_fft / 2 / mel.sampling_rate)
    return ColumnGrid(
        rows=(mel.num_mel_bins - shape.patch_size) // shape.frequency_stride + 1,
        count=len(range(0, columns, stride)),
        first_s=first_s,
        step_s=step_s,
        context=max(1, round(CONTEXT_S / step_s)),
    )


def local_bias(grid: ColumnGrid) -> FloatArray:
    """What keeps attention local: float32, shape ``(1, 1, tokens, tokens)``, 0 where a token may look, else -1e9.

    At the ends of a window, where there is nothing on one side, a patch looks further to the other. The two special
    tokens look at each other only: through them, everything would reach everything.
    """
    at = np.arange(grid.count)
    width = min(grid.count, 2 * grid.context + 1)
    first = np.clip(at - grid.context, 0, grid.count - width)
    columns = (at >= first[:, np.newaxis]) & (at < first[:, np.newaxis] + width)
    seen = np.zeros((grid.tokens, grid.tokens), dtype=np.bool_)
    seen[:, :_SPECIAL] = True
    # Patches are numbered frequency-major.
    seen[_SPECIAL:, _SPECIAL:] = np.tile(columns, (grid.rows, grid.rows))
    bias: FloatArray = np.where(seen, np.float32(0.0), np.float32(_NEVER))
    return bias[np.newaxis, np.newaxis]


class ColumnEncoder:
    """Log-mel windows -> embeddings along them. Safe to call from several threads.

    Making one costs one pass of the encoder.

    Args:
        bundle: which model.
        engine: that runs it.

    Raises:
        TimelineUnsupported: the bundle's embedding is not the mean of the patches.
        EngineError: the engine failed.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.grid = column_grid(bundle)
        self._engine = engine
        slope = np.linspace(_SLOPE, -_SLOPE, bundle.mel.num_mel_bins, dtype=np.float32)
        steady = np.tile(slope, (1, bundle.mel.max_length, 1))
        self.bound = bound_to_position(engine.columns(steady, local=False)[0])

    def __call__(self, mels: FloatArray) -> FloatArray:
        """Encode windows with local attention.

        Args:
            mels: float32, shape ``(n, frames, mel_bins)``.

        Returns:
            float32, shape ``(n, columns, width)``.

        Raises:
            EngineError: the engine failed.
        """
        return bridge(self._engine.columns(mels, local=True), self.bound)


def bound_to_position(columns: FloatArray) -> npt.NDArray[np.bool_]:
    """Which columns of a steady window lie far from the others: their place decides what they hold.

    Args:
        columns: float32, shape ``(columns, width)``.

    Returns:
        shape ``(columns,)``; never more than half of them.
    """
    distance = np.linalg.norm(columns - np.median(columns, axis=0), axis=1)
    far: npt.NDArray[np.bool_] = distance > _FAR * np.median(distance)
    return far


def bridge(columns: FloatArray, bound: npt.NDArray[np.bool_]) -> FloatArray:
    """Put what lies on a straight line between the nearest other columns in the place of those that are ``bound``.

    Args:
        columns: float32, shape ``(n, columns, width)``; stays as it is.
        bound: shape ``(columns,)``, not all of them true.
    """
    free, gaps = np.flatnonzero(~bound), np.flatnonzero(bound)
    after = np.searchsorted(free, gaps)
    left, right = free[np.maximum(after - 1, 0)], free[np.minimum(after, len(free) - 1)]
    share = np.where(right > left, (gaps - left) / np.maximum(right - left, 1), 0.0).astype(np.float32)
    bridged = columns.copy()
    bridged[:, gaps] = columns[:, left] + share[:, np.newaxis] * (columns[:, right] - columns[:, left])
    return bridged
