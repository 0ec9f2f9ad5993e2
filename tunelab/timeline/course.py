"""The embeddings along a track, and what becomes of them when they are pooled by segments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunelab.timeline.plan import Plan, Times
from tunelab.types import FloatArray


@dataclass(frozen=True, slots=True)
class Course:
    """Embeddings along a track.

    Attributes:
        times_s: middles of the columns in seconds, ascending, shape ``(n,)``.
        embeddings: float32, shape ``(n, width)``; zeros where it is silent.
        silent: which columns are digital silence, shape ``(n,)``.
    """

    times_s: Times
    embeddings: FloatArray
    silent: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pooled:
    """Means over segments.

    Attributes:
        embeddings: float32, shape ``(segments, width)``; zeros where it is silent.
        silent: which segments hold nothing but digital silence, shape ``(segments,)``.
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

    A column belongs to the segment that its middle lies in. A segment without one, which is shorter than a column,
    takes the nearest.
    """
    segments = len(edges) - 1
    owner = np.clip(np.searchsorted(edges, course.times_s, side="right") - 1, 0, segments - 1)
    counts = np.bincount(owner[~course.silent], minlength=segments)
    held, begins = np.unique(owner, return_index=True)
    sums = np.add.reduceat(course.embeddings, begins, axis=0, dtype=np.float64)  # silent columns are zeros
    embeddings = np.zeros((segments, course.embeddings.shape[1]), dtype=np.float32)
    embeddings[held] = sums / np.maximum(counts[held], 1)[:, np.newaxis]
    silent = counts == 0
    for segment in np.setdiff1d(np.arange(segments), held):
        nearest = int(np.abs(course.times_s - (edges[segment] + edges[segment + 1]) / 2).argmin())
        embeddings[segment], silent[segment] = course.embeddings[nearest], course.silent[nearest]
    return Pooled(embeddings, silent)
