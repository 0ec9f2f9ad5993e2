"""The embeddings along a track, and what becomes of them when they are pooled by segments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunelab.timeline.plan import Plan, Times
from tunelab.types import SILENCE_STEP_S, FloatArray

LEAST_SOUND = 0.1
"""A segment of which no more than this sounds is silent: resampling and lossy codecs let sound ring into silence."""


@dataclass(frozen=True, slots=True)
class Course:
    """Embeddings along a track.

    Attributes:
        times_s: middles of the columns in seconds, ascending, shape ``(n,)``.
        embeddings: float32, shape ``(n, width)``; zeros where it is silent.
        silent: which columns see nothing but digital silence, shape ``(n,)``; not all of them.
        quiet: which steps of :data:`SILENCE_STEP_S` are digital silence, shape ``(steps,)``.
    """

    times_s: Times
    embeddings: FloatArray
    silent: npt.NDArray[np.bool_]
    quiet: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pooled:
    """Means over segments.

    Attributes:
        embeddings: float32, shape ``(segments, width)``; zeros where it is silent.
        silent: which segments are digital silence, shape ``(segments,)``.
    """

    embeddings: FloatArray
    silent: npt.NDArray[np.bool_]


def join_windows(plan: Plan, windows: Mapping[int, FloatArray]) -> Course:
    """Put the columns that count behind each other.

    Args:
        plan: says which.
        windows: number of each window in ``plan.windows`` -> its columns, float32, shape ``(columns, width)``.
    """
    width = next(iter(windows.values())).shape[1]
    embeddings = []
    for part in plan.parts:
        if part.window in windows:
            embeddings.append(np.where(part.silent[:, np.newaxis], np.float32(0.0), windows[part.window][part.columns]))
        else:
            embeddings.append(np.zeros((part.columns.size, width), dtype=np.float32))
    return Course(
        times_s=np.concatenate([part.times_s for part in plan.parts]),
        embeddings=np.concatenate(embeddings),
        silent=np.concatenate([part.silent for part in plan.parts]),
        quiet=plan.silent,
    )


def segment_edges(duration_s: float, step_s: float) -> Times:
    """Cut a track into segments of ``step_s``; a rest shorter than half of one goes to the last.

    Returns:
        Ascending from 0 to ``duration_s``, at least two.
    """
    count = max(1, math.floor(duration_s / step_s + 0.5))
    return np.append(step_s * np.arange(count), duration_s)


def pool(course: Course, edges: Times) -> Pooled:
    """Mean over the columns of each segment that are not silent.

    A column belongs to the segment that its middle lies in. A segment with sound and without a column, because it is
    shorter than one or the sound is at its edge, takes the nearest.

    Args:
        course: of the track.
        edges: ascending; the first at 0, the last at the end of the track.
    """
    segments = len(edges) - 1
    steps = _owners(edges, _middles_of_steps(course))
    sound = np.bincount(steps[~course.quiet], minlength=segments)
    silent = sound <= LEAST_SOUND * np.bincount(steps, minlength=segments)
    times_s, sounding = course.times_s[~course.silent], course.embeddings[~course.silent]
    owner = _owners(edges, times_s)
    held, begins, counts = np.unique(owner, return_index=True, return_counts=True)
    embeddings = np.zeros((segments, sounding.shape[1]), dtype=np.float32)
    embeddings[held] = np.add.reduceat(sounding, begins, axis=0, dtype=np.float64) / counts[:, np.newaxis]
    for segment in np.setdiff1d(np.flatnonzero(~silent), held):
        embeddings[segment] = sounding[np.abs(times_s - (edges[segment] + edges[segment + 1]) / 2).argmin()]
    embeddings[silent] = 0.0
    return Pooled(embeddings, silent)


def _middles_of_steps(course: Course) -> Times:
    return SILENCE_STEP_S * (np.arange(len(course.quiet), dtype=np.float64) + 0.5)


def _owners(edges: Times, times_s: Times) -> npt.NDArray[np.int64]:
    """Which segment each time lies in."""
    return np.clip(np.searchsorted(edges, times_s, side="right") - 1, 0, len(edges) - 2)
