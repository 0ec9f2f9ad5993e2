"""Which windows of a track the encoder has to see, and which of their columns count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunelab.encoder.columns import ColumnGrid
from tunelab.errors import SilentAudio
from tunelab.types import SILENCE_STEP_S, Outline

Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """The columns of one window that count: each moment of a track is taken from one window.

    Attributes:
        window: its number.
        columns: numbers of the columns, ascending, shape ``(n,)``.
        times_s: their middles in the track, in seconds, shape ``(n,)``.
        silent: which of them see nothing but digital silence, shape ``(n,)``.
    """

    window: int
    columns: npt.NDArray[np.int64]
    times_s: Times
    silent: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a timeline takes.

    Attributes:
        parts: in the order of time; together they are the whole track.
        windows: numbers of the windows that must be encoded: those of parts with sound.
        level: number of the window that is encoded once more, as for an analysis; one of ``windows``.
        duration_s: length of the track in seconds.
        silent: which steps of the track are digital silence, as its outline says.
    """

    parts: tuple[Part, ...]
    windows: tuple[int, ...]
    level: int
    duration_s: float
    silent: npt.NDArray[np.bool_]

    @property
    def passes(self) -> int:
        """Windows that the encoder sees."""
        return len(self.windows) + 1


def make_plan(outline: Outline, window_s: float, grid: ColumnGrid) -> Plan:
    """Share the track among its windows.

    A window counts from where the one before it ends; one that would count for less than a column is left out.

    Args:
        outline: of the track.
        window_s: length of a window in seconds.
        grid: its columns.

    Raises:
        SilentAudio: no column holds a sound.
    """
    parts: list[Part] = []
    end_s = 0.0
    for window, start_s in enumerate(outline.starts_s):
        times_s = start_s + grid.times_s
        columns = np.flatnonzero((times_s >= end_s) & (times_s < outline.duration_s))
        end_s = start_s + window_s
        if columns.size == 0 and parts:
            continue
        if columns.size == 0:  # a track shorter than half a column
            columns = np.array([0])
        silent = np.array([_is_silent(outline.silent, times_s[column], grid.step_s) for column in columns])
        parts.append(Part(window, columns, times_s[columns], silent))
    sound = {part.window: int((~part.silent).sum()) for part in parts if not part.silent.all()}
    if not sound:
        raise SilentAudio("the track is silent but for less than a tenth of a second")
    middle = (len(outline.starts_s) - 1) / 2
    level = min(sound, key=lambda window: (-sound[window], abs(window - middle)))
    return Plan(tuple(parts), tuple(sound), level, outline.duration_s, outline.silent)


def _is_silent(silent: npt.NDArray[np.bool_], middle_s: float, length_s: float) -> bool:
    first = int((middle_s - length_s / 2) / SILENCE_STEP_S)
    last = int(np.ceil((middle_s + length_s / 2) / SILENCE_STEP_S))
    around = silent[max(0, first) : last]
    return bool(around.size and around.all())
