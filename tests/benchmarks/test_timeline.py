"""What the benchmark of timelines makes of scores whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pieces import PIECE_S, RATE, draw, synthetic_pieces
from benchmarks.timeline import crossing, share_of_other

FIRST, SECOND = np.array([20.0, 50.0]), np.array([30.0, 90.0])


def test_the_score_that_differs_most_tells_where_the_change_is() -> None:
    times = np.arange(10) + 0.5
    scores = np.where(times[:, None] < 6, FIRST, SECOND)
    assert crossing(scores, times, FIRST, SECOND) == 6.0
    # A moment that sounds like the other piece does not.
    scores[2] = SECOND
    assert crossing(scores, times, FIRST, SECOND) == 6.0
    assert crossing(np.tile(FIRST, (10, 1)), times, FIRST, SECOND) == 9.0


def test_share_of_the_other_piece() -> None:
    own, other = np.tile(FIRST, (4, 1)), np.tile(SECOND, (4, 1))
    assert share_of_other(own, own, other) == 0.0
    assert share_of_other(other, own, other) == 1.0
    # The first score differs by 10 points only, and tells nothing.
    assert share_of_other(own + np.array([1000.0, 10.0]), own, other) == pytest.approx(0.25)
    assert np.isnan(share_of_other(own, own, own))


def test_pieces() -> None:
    pieces = synthetic_pieces()
    for piece in pieces:
        assert piece.samples.shape == (round(PIECE_S * RATE),)
        assert np.abs(piece.samples).max() == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    assert all(one.name != two.name for one, two in (draw(pieces, rng) for _ in range(20)))
