"""Novelty, boundaries and labels on embeddings that are made for the purpose."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunelab.timeline.course import Course
from tunelab.timeline.sections import find_sections, label, novelty, peaks
from tunelab.types import FloatArray, Section

A, B, C = np.eye(3, dtype=np.float32)


def frames(*parts: tuple[FloatArray, int], noise: float = 0.0, seed: int = 0) -> FloatArray:
    whole = np.concatenate([np.tile(vector, (count, 1)) for vector, count in parts])
    return (whole + noise * np.random.default_rng(seed).normal(size=whole.shape)).astype(np.float32)


def course(*parts: tuple[FloatArray | None, float], noise: float = 0.0) -> Course:
    """Columns every 0.25 s; ``None``: silence."""
    rows = [(vector, None) for vector, seconds in parts for _ in range(round(4 * seconds))]
    silent = np.array([vector is None for vector, _ in rows])
    embeddings = np.array([np.zeros(3) if vector is None else vector for vector, _ in rows], dtype=np.float32)
    embeddings += np.random.default_rng(0).normal(size=embeddings.shape).astype(np.float32) * noise * ~silent[:, None]
    return Course(0.125 + 0.25 * np.arange(len(rows)), embeddings, silent, np.repeat(silent, 5))


def told(sections: tuple[Section, ...]) -> list[tuple[float, float, str | None]]:
    return [(section.start_s, section.end_s, section.label) for section in sections]


def test_novelty_of_one_change() -> None:
    """Orthogonal sides: at the change the cosine within is 1, that between 0. It fades within 8 frames to each side."""
    values = novelty(frames((A, 20), (B, 20)))
    golden = [0.0, -0.0050, -0.0067, 0.0039, 0.0436, 0.1372, 0.3140, 0.5986, 1.0]
    np.testing.assert_allclose(values[12:21], golden, atol=1e-4)
    np.testing.assert_allclose(values[20:29], golden[::-1], atol=1e-4)
    np.testing.assert_allclose(values[:12], 0, atol=1e-6)
    np.testing.assert_allclose(values[29:], 0, atol=1e-6)


def test_novelty_is_what_its_words_say() -> None:
    """Against sums that are written out."""
    embeddings = np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)

    def mean_cosine(left: range, right: range, at: int) -> float:
        total = weights = 0.0
        for i in left:
            for j in right:
                if i != j:
                    distances = [abs(k + 0.5 - at) for k in (i, j)]
                    weight = float(np.exp(-0.5 * ((distances[0] / 4) ** 2 + (distances[1] / 4) ** 2)))
                    x, y = embeddings[i].astype(float), embeddings[j].astype(float)
                    total += weight * float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
                    weights += weight
        return total / weights

    values = novelty(embeddings)
    for at in range(5, 26):
        before, after = range(max(0, at - 8), at), range(at, min(30, at + 8))
        within = (mean_cosine(before, before, at) + mean_cosine(after, after, at)) / 2
        assert values[at] == pytest.approx(within - mean_cosine(before, after, at), abs=1e-5)
    assert not values[:5].any()
    assert not values[26:].any()


def test_novelty_of_opposites_and_of_nothing_new() -> None:
    assert novelty(frames((A, 10), (-A, 10)))[10] == pytest.approx(2.0)
    np.testing.assert_allclose(novelty(frames((A, 40))), 0, atol=1e-6)
    # Level does not count, direction does.
    np.testing.assert_allclose(novelty(frames((A, 10), (5 * A, 10))), 0, atol=1e-6)
    for count in range(1, 10):
        np.testing.assert_array_equal(novelty(frames((A, count))), np.zeros(count))


def test_noise_in_all_frames_is_not_new() -> None:
    values = novelty(frames((A, 60), noise=0.2))
    assert values.max() < 0.1
    assert peaks(values) == []


@settings(derandomize=True, database=None, deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.integers(0, 3))
def test_peaks_are_high_and_keep_their_distance(values: list[float], seed: int) -> None:
    found = peaks(np.array(values, np.float32))
    assert found == sorted(set(found))
    assert all(values[at] >= 0.1999 for at in found)
    assert all(right - left >= 5 for left, right in itertools.pairwise(found))
    # Whatever is novel and was not taken has something higher, or as high, beside it.
    for at, value in enumerate(values):
        if value >= 0.2001 and at not in found:
            assert any(abs(at - other) < 5 and values[other] >= value - 1e-6 for other in found)


def test_sections_of_a_song() -> None:
    song = course((A, 20), (B, 15), (A, 20), (C, 12), noise=0.1)
    assert told(find_sections(song, 67.0)) == [(0, 20, "A"), (20, 35, "B"), (35, 55, "A"), (55, 67, "C")]


def test_a_constant_piece_is_one_section() -> None:
    assert told(find_sections(course((A, 90), noise=0.3), 90.0)) == [(0, 90, "A")]


@pytest.mark.parametrize("duration_s", [0.5, 1.0, 3.0, 9.0, 11.0])
def test_short_tracks(duration_s: float) -> None:
    assert told(find_sections(course((A, duration_s)), duration_s)) == [(0, duration_s, "A")]


def test_a_boundary_between_parts_that_are_alike_is_none() -> None:
    # A jolt of a second, which is novel, between two parts that are the same.
    near = (A + 0.4 * B).astype(np.float32)
    sections = told(find_sections(course((A, 20), (near, 20)), 40.0))
    assert sections == [(0, 40, "A")]


def test_long_silence_is_a_section_and_short_silence_is_not() -> None:
    song = course((A, 12), (None, 2), (A, 12), (None, 8), (A, 12), (None, 6))
    assert told(find_sections(song, 52.0)) == [
        (0, 26, "A"),
        (26, 34, None),
        (34, 46, "A"),
        (46, 52, None),
    ]
    # Silence between two pieces that differ, and at the start.
    song = course((None, 7), (A, 12), (None, 2), (B, 12))
    assert told(find_sections(song, 33.0)) == [(0, 7, None), (7, 21, "A"), (21, 33, "B")]


def test_nothing_but_a_moment_of_sound() -> None:
    assert told(find_sections(course((None, 20), (A, 0.5), (None, 20)), 40.5)) == [
        (0, 20, None),
        (20, 21, "A"),
        (21, 40.5, None),
    ]
    assert told(find_sections(course((None, 2), (A, 0.25)), 2.25)) == [(0, 2.25, "A")]


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, C, None]), st.integers(1, 120).map(lambda n: n / 4)), min_size=1, max_size=8
    ).filter(lambda parts: any(vector is not None for vector, _ in parts))
)
def test_sections_tile_any_track(parts: list[tuple[FloatArray | None, float]]) -> None:
    duration_s = sum(seconds for _, seconds in parts)
    sections = find_sections(course(*parts, noise=0.05), duration_s)
    assert sections[0].start_s == 0.0
    assert sections[-1].end_s == pytest.approx(duration_s)
    for left, right in itertools.pairwise(sections):
        assert left.end_s == right.start_s
        assert left.label != right.label
    assert all(section.end_s > section.start_s for section in sections)
    names = [section.label for section in sections if section.label]
    assert list(dict.fromkeys(names)) == [chr(ord("A") + number) for number in range(len(set(names)))]


def test_labels() -> None:
    near = (A + 0.5 * B).astype(np.float32)  # cosine 0.89 to A
    far = (A + B).astype(np.float32)  # 0.71 to A
    assert label([A, B, near, None, C, B], [10, 10, 10, 3, 10, 10]) == ["A", "B", "A", None, "C", "B"]
    assert label([A, far], [10, 10]) == ["A", "B"]
    # What a label sounds like is decided by all that has it, the longer the more.
    assert label([A, near, far], [1, 100, 10]) == ["A", "A", "A"]
    assert label([A, near, far], [100, 1, 10]) == ["A", "A", "B"]
    many = label(list(np.eye(60, dtype=np.float32)), [1] * 60)
    assert many[:2] + many[24:29] + many[51:54] == ["A", "B", "Y", "Z", "AA", "AB", "AC", "AZ", "BA", "BB"]
