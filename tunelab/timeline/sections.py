"""Where a track changes, and which of its parts sound alike.

Boundaries are peaks of novelty: a checkerboard kernel that slides along the diagonal of the self-similarity matrix
(Foote, "Automatic audio segmentation using a measure of audio novelty", ICME 2000).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tunelab.timeline.course import Course, Pooled, pool, segment_edges
from tunelab.types import FloatArray, Section

FRAME_S = 1.0
"""Boundaries are found on embeddings pooled by this much."""
_HALF_KERNEL = 8
"""Frames that the kernel looks at on each side."""
_LEAST_FRAMES = 5
"""Of a section, silent or not: of two boundaries that are closer, the one with more novelty stays."""
_NOVEL = 0.2
"""Mean cosine within the two sides minus that between them. Chosen for ``tunelab-v1`` 1.3.0 and kept for 1.4.0: higher
values miss more cuts from one song to another, lower ones find more that are none (``python -m benchmarks.timeline``
prints both)."""
_SAME = 0.75
"""Cosine from which on two parts have one label: mostly reached by two halves of one song, seldom by two songs."""


def find_sections(course: Course, duration_s: float) -> tuple[Section, ...]:
    """Cut a track where it changes.

    Silence of 5 s and more is a section without a label; shorter silence belongs to what is around it.

    Returns:
        Sections from 0 to ``duration_s``, neighbours with different labels.
    """
    edges = segment_edges(duration_s, FRAME_S)
    frames = pool(course, edges)
    cuts = [0, *_cuts(frames), len(frames.silent)]
    parts = list(itertools.pairwise(cuts))
    names = label([_mean(frames, *part) for part in parts], [end - begin for begin, end in parts])
    sections: list[Section] = []
    for (begin, end), name in zip(parts, names, strict=True):
        if sections and sections[-1].label == name:
            sections[-1] = Section(sections[-1].start_s, float(edges[end]), name)
        else:
            sections.append(Section(float(edges[begin]), float(edges[end]), name))
    return tuple(sections)


def novelty(embeddings: FloatArray) -> FloatArray:
    """How much changes between each frame and the one before it.

    Args:
        embeddings: shape ``(n, width)``, one a frame, none of them zero.

    Returns:
        float32, shape ``(n,)``: the mean cosine within the frames before and within those from here on, minus the mean
        cosine between the two, at most 2; frames count less the further away they are. 0 within 5 frames of the ends.
    """
    count = len(embeddings)
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    values = np.zeros(count, dtype=np.float32)
    taper = np.exp(-0.5 * ((np.arange(_HALF_KERNEL) + 0.5) / (_HALF_KERNEL / 2)) ** 2)
    for at in range(_LEAST_FRAMES, count - _LEAST_FRAMES + 1):
        before, after = min(_HALF_KERNEL, at), min(_HALF_KERNEL, count - at)
        weights = np.concatenate([taper[:before][::-1], taper[:after]])
        near = units[at - before : at + after]
        similar, weight = near @ near.T, np.outer(weights, weights)
        np.fill_diagonal(weight, 0.0)  # that a frame is like itself says nothing
        left, right = slice(0, before), slice(before, None)
        within = (_average(similar, weight, left, left) + _average(similar, weight, right, right)) / 2
        values[at] = within - _average(similar, weight, left, right)
    return values


def peaks(values: FloatArray) -> list[int]:
    """Positions of the highest values that are novel and keep their distance from each other, ascending."""
    found: list[int] = []
    for at in np.argsort(-values, kind="stable"):
        if values[at] < _NOVEL:
            break
        if all(abs(at - other) >= _LEAST_FRAMES for other in found):
            found.append(int(at))
    return sorted(found)


def label(means: list[FloatArray | None], lengths: list[int]) -> list[str | None]:
    """Name parts: each gets the name of the most similar earlier ones, if they are similar enough.

    Args:
        means: embedding of each part; ``None``: silence.
        lengths: of each part, any unit.

    Returns:
        ``A``, ``B``, ... ``Z``, ``AA``, ... in the order in which they first occur; ``None`` for silence.
    """
    totals: list[FloatArray] = []
    labels: list[str | None] = []
    for mean, length in zip(means, lengths, strict=True):
        if mean is None:
            labels.append(None)
            continue
        likeness = [_cosine(mean, total) for total in totals]
        best = int(np.argmax(likeness)) if likeness else -1
        if best >= 0 and likeness[best] >= _SAME:
            totals[best] = totals[best] + length * mean
        else:
            best = len(totals)
            totals.append(length * mean)
        labels.append(_name(best))
    return labels


def _cuts(frames: Pooled) -> Iterator[int]:
    """Frames at which a section begins, without the first."""
    count = len(frames.silent)
    begin = 0
    for first, last in [*_silences(frames.silent), (count, count)]:
        sounding = begin + np.flatnonzero(~frames.silent[begin:first])
        yield from (int(sounding[at]) for at in peaks(novelty(frames.embeddings[sounding])))
        yield from (edge for edge in (first, last) if 0 < edge < count)
        begin = last


def _silences(silent: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First frame of each long silence, and the first one after it."""
    changes = np.flatnonzero(np.diff(silent.astype(np.int8), prepend=0, append=0))
    for first, last in changes.reshape(-1, 2).tolist():
        if last - first >= _LEAST_FRAMES:
            yield first, last


def _mean(frames: Pooled, begin: int, end: int) -> FloatArray | None:
    sounding = frames.embeddings[begin:end][~frames.silent[begin:end]]
    if len(sounding) == 0:
        return None
    mean: FloatArray = sounding.mean(axis=0)
    return mean


def _average(values: FloatArray, weight: FloatArray, rows: slice, columns: slice) -> float:
    return float(np.average(values[rows, columns], weights=weight[rows, columns]))


def _cosine(left: FloatArray, right: FloatArray) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def _name(number: int) -> str:
    name = ""
    while number >= 0:
        name = chr(ord("A") + number % 26) + name
        number = number // 26 - 1
    return name
