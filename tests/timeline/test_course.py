"""The arithmetic between windows, columns and segments: every moment of a track is taken once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunelab.audio.track import window_starts
from tunelab.encoder.columns import ColumnGrid
from tunelab.errors import SilentAudio
from tunelab.timeline.course import Course, join_windows, pool, segment_edges
from tunelab.timeline.plan import Plan, make_plan
from tunelab.types import SILENCE_STEP_S, Outline

RATE = 16_000
SHIPPED = ColumnGrid(rows=8, count=117, first_s=0.12, step_s=0.256, context=8)
WINDOW_S = 30.0

grids = st.builds(
    lambda step_s, count: ColumnGrid(rows=2, count=count, first_s=step_s / 2, step_s=step_s, context=1),
    step_s=st.sampled_from([0.16, 0.256, 0.512, 2.048]),
    count=st.integers(2, 120),
)
durations = st.integers(RATE, 150 * RATE).map(lambda samples: samples / RATE)
steps = st.floats(1.0, 30.0)
exhaustively = settings(derandomize=True, database=None, deadline=None, max_examples=60)


def outline_of(duration_s: float, window_s: float, silent: list[tuple[float, float]] = []) -> Outline:  # noqa: B006
    length, samples = round(window_s * RATE), max(round(duration_s * RATE), round(window_s * RATE))
    quiet = np.zeros(int(np.ceil(duration_s / SILENCE_STEP_S)), bool)
    for begin_s, end_s in silent:
        quiet[round(begin_s / SILENCE_STEP_S) : round(end_s / SILENCE_STEP_S)] = True
    return Outline(tuple(start / RATE for start in window_starts(samples, length)), duration_s, quiet)


def numbered(plan: Plan, grid: ColumnGrid) -> dict[int, np.ndarray]:
    """Columns that hold their window's number and their own."""
    return {
        window: np.stack([np.full(grid.count, window), np.arange(grid.count)], axis=1).astype(np.float32)
        for window in plan.windows
    }


@exhaustively
@given(samples=st.integers(1, 10_000), length=st.integers(1, 1000))
def test_windows_cover_the_track(samples: int, length: int) -> None:
    samples = max(samples, length)
    starts = window_starts(samples, length)
    assert starts[0] == 0
    assert starts[-1] == samples - length
    assert starts[:-1] == list(range(0, length * (len(starts) - 1), length))
    assert len(starts) == -(-samples // length)


@exhaustively
@given(duration_s=durations, grid=grids)
def test_every_moment_is_taken_from_one_window(duration_s: float, grid: ColumnGrid) -> None:
    window_s = grid.first_s + grid.step_s * grid.count
    plan = make_plan(outline_of(duration_s, window_s), window_s, grid)
    times = np.concatenate([part.times_s for part in plan.parts])
    assert (np.diff(times) > 0).all()
    assert times[0] == pytest.approx(grid.first_s)
    assert len(times) == 1 or times[-1] < duration_s
    # No hole is longer than two columns, where windows meet as elsewhere, and the last one reaches to the end.
    assert np.diff(times).max(initial=0) < 2.01 * grid.step_s
    assert duration_s - times[-1] < 2.01 * grid.step_s
    for part in plan.parts:
        np.testing.assert_array_equal(np.diff(part.columns), 1)
        start_s = part.times_s[0] - grid.times_s[part.columns[0]]
        np.testing.assert_allclose(part.times_s, start_s + grid.times_s[part.columns])
    # Each part is a window of its own, and none is encoded for nothing.
    assert [part.window for part in plan.parts] == list(plan.windows)
    assert plan.level in plan.windows


def test_passes_of_a_song() -> None:
    def passes(duration_s: float) -> int:
        return make_plan(outline_of(duration_s, WINDOW_S), WINDOW_S, SHIPPED).passes

    assert passes(240.0) == 9
    assert passes(240.1) == 9  # the rest is shorter than what a column would add
    assert passes(241.0) == 10
    assert passes(10.0) == 2
    assert passes(1200.0) == 41


def test_of_the_last_window_only_what_is_new_counts() -> None:
    plan = make_plan(outline_of(70.0, WINDOW_S), WINDOW_S, SHIPPED)
    assert [part.window for part in plan.parts] == [0, 1, 2]
    last = plan.parts[2]
    assert last.times_s[0] == pytest.approx(60.0, abs=0.256)
    assert last.times_s[0] >= 60.0
    assert last.columns[-1] == 116


def test_a_short_track_counts_once_although_it_is_repeated() -> None:
    plan = make_plan(outline_of(7.3, WINDOW_S), WINDOW_S, SHIPPED)
    (part,) = plan.parts
    assert part.times_s[-1] < 7.3 < part.times_s[-1] + 0.256


def test_silence_is_known_by_column_and_silent_windows_are_not_encoded() -> None:
    plan = make_plan(outline_of(120.0, WINDOW_S, [(28.0, 61.0), (100.0, 101.0)]), WINDOW_S, SHIPPED)
    assert plan.windows == (0, 2, 3)
    assert plan.passes == 4
    course = join_windows(plan, numbered(plan, SHIPPED))
    quiet = course.times_s[course.silent]
    for begin_s, end_s in ((28.0, 61.0), (100.0, 101.0)):
        inside = quiet[(quiet > begin_s - 1) & (quiet < end_s + 1)]
        assert begin_s <= inside[0] < begin_s + 0.5
        assert end_s - 0.5 < inside[-1] <= end_s
    assert not course.embeddings[course.silent].any()
    # The level is taken where there is most sound.
    assert plan.level == 3 or plan.level == 2
    assert make_plan(outline_of(120.0, WINDOW_S, [(0.0, 2.0), (60.0, 119.0)]), WINDOW_S, SHIPPED).level == 1


def test_no_sound_at_all() -> None:
    with pytest.raises(SilentAudio):
        make_plan(outline_of(40.0, WINDOW_S, [(0.0, 40.0)]), WINDOW_S, SHIPPED)


@exhaustively
@given(duration_s=durations, step_s=steps)
def test_segments_tile_the_track(duration_s: float, step_s: float) -> None:
    edges = segment_edges(duration_s, step_s)
    assert edges[0] == 0.0
    assert edges[-1] == duration_s
    lengths = np.diff(edges)
    np.testing.assert_allclose(lengths[:-1], step_s)
    assert lengths[-1] <= 1.5 * step_s + 1e-9
    assert lengths[-1] >= min(0.5 * step_s, duration_s) - 1e-9


@exhaustively
@given(duration_s=durations, step_s=steps, grid=grids, seed=st.integers(0, 9))
def test_every_column_is_used_once(duration_s: float, step_s: float, grid: ColumnGrid, seed: int) -> None:
    window_s = grid.first_s + grid.step_s * grid.count
    plan = make_plan(outline_of(duration_s, window_s), window_s, grid)
    count = sum(part.columns.size for part in plan.parts)
    course = join_windows(plan, numbered(plan, grid))
    assert course.embeddings.shape == (count, 2)
    silent = np.random.default_rng(seed).random(count) < 0.3
    one_hot = np.where(silent[:, None], 0, np.eye(count, dtype=np.float32))
    if silent.all():
        return
    edges = segment_edges(duration_s, step_s)
    pooled = pool(Course(course.times_s, one_hot, silent, np.zeros(len(course.quiet), bool)), edges)
    assert not pooled.silent.any()
    # Each row tells how much of each column is in a segment.
    ends = [*edges[:-1], np.inf]  # a column of a very short track may lie behind its end
    owned = [(course.times_s >= begin) & (course.times_s < end) & ~silent for begin, end in itertools.pairwise(ends)]
    np.testing.assert_array_equal(sum(each.astype(int) for each in owned), ~silent)
    for row, within in zip(pooled.embeddings, owned, strict=True):
        if within.any():
            np.testing.assert_array_equal(row > 0, within)
            np.testing.assert_allclose(row[within], 1 / within.sum(), rtol=1e-6)
        else:  # shorter than a column, or between silent ones: shares the nearest with others
            assert sorted(row)[-2:] == [0.0, 1.0] or len(row) == 1


def test_a_segment_without_a_column_takes_the_nearest() -> None:
    quiet = np.zeros(80, bool)
    quiet[52:] = True  # from 2.6 s on
    course = Course(np.array([1.0, 2.5, 3.0]), np.array([[1], [2], [0]], np.float32), np.array([0, 0, 1], bool), quiet)
    pooled = pool(course, np.array([0.0, 1.5, 1.7, 1.9, 2.6, 4.0]))
    assert pooled.embeddings[:, 0].tolist() == [1.0, 1.0, 2.0, 2.0, 0.0]
    assert pooled.silent.tolist() == [False, False, False, False, True]


def test_a_segment_is_silent_if_all_of_it_is_however_far_its_columns_see() -> None:
    """Columns at the edges of a silence see some of what is around it."""
    plan = make_plan(outline_of(60.0, WINDOW_S, [(10.0, 20.0)]), WINDOW_S, SHIPPED)
    pooled = pool(join_windows(plan, numbered(plan, SHIPPED)), segment_edges(60.0, 5.0))
    assert np.flatnonzero(pooled.silent).tolist() == [2, 3]
    assert not pooled.embeddings[2:4].any()
    # A tenth of it may ring; more is sound, wherever it is.
    for begin_s, end_s, silent in ((10.0, 10.5, [2, 3]), (10.0, 10.55, [3]), (12.0, 12.6, [3]), (19.4, 20.0, [2])):
        outline = outline_of(60.0, WINDOW_S, [(10.0, begin_s), (end_s, 20.0)])
        plan = make_plan(outline, WINDOW_S, SHIPPED)
        pooled = pool(join_windows(plan, numbered(plan, SHIPPED)), segment_edges(60.0, 5.0))
        assert np.flatnonzero(pooled.silent).tolist() == silent
