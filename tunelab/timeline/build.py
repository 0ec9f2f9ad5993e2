"""From the encoder's columns to a timeline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tunelab.heads import Heads
from tunelab.timeline.course import join_windows, pool, segment_edges
from tunelab.timeline.plan import Plan
from tunelab.timeline.sections import find_sections
from tunelab.types import FloatArray, Timeline


def make_timeline(
    plan: Plan,
    windows: Mapping[int, FloatArray],
    level: FloatArray,
    score: Heads,
    *,
    step_s: float,
    model: str,
    revision: str = "",
) -> Timeline:
    """Pool, score and cut.

    The heads were trained on embeddings for which attention saw 30 s. With less in view the embeddings of a track lie
    somewhat to one side of those, so all of them are moved by what it takes for one window's mean to be the embedding
    that an analysis of this window gives.

    Args:
        plan: of the track.
        windows: number of each window in ``plan.windows`` -> its columns, float32, shape ``(columns, width)``.
        level: the embedding of window ``plan.level`` with attention to the whole window, shape ``(width,)``.
        score: the heads.
        step_s: length of a segment in seconds.
        model: name of the bundle.
        revision: of the bundle.
    """
    course = join_windows(plan, windows)
    shift = level - windows[plan.level].mean(axis=0)
    edges = segment_edges(plan.duration_s, step_s)
    pooled = pool(course, edges)
    scores = [
        None if silent else score(embedding + shift)
        for embedding, silent in zip(pooled.embeddings, pooled.silent, strict=True)
    ]
    whole = course.embeddings[~course.silent].mean(axis=0)
    return Timeline(
        start_s=tuple(edges[:-1].tolist()),
        end_s=tuple(edges[1:].tolist()),
        scores={head: tuple(None if each is None else each[head] for each in scores) for head in score.names},
        sections=find_sections(course, plan.duration_s),
        track=score(np.asarray(whole + shift, dtype=np.float32)),
        step_s=step_s,
        duration_s=plan.duration_s,
        model=model,
        revision=revision,
    )
