import sys

import numpy as np
import pytest

from tests.training.world import World
from tunelab.errors import SettingsError
from tunelab.training.kinds import KIND_WEIGHTS, kinds_from
from tunelab.training.rap import BAR, beats_of, grid_of, rap, syllables_of
from tunelab.training.voice import SAMPLE_RATE, Vocal


def _words(count: int = 8, frames: int = 30) -> Vocal:
    """Syllables of equal length that fade away, each with a level of its own."""
    envelope = np.concatenate([np.linspace(1.0, 0.01, frames) ** 2 for _ in range(count)])
    return Vocal(
        np.ones(count * frames, bool),
        np.full(count * frames, 110.0),
        np.repeat(envelope[:, None], 513, 1),
        np.full((count * frames, 513), 0.1),
    )


def test_the_beat_of_clicks_is_heard() -> None:
    clicks = np.zeros(20 * SAMPLE_RATE, np.float32)
    clicks[:: SAMPLE_RATE // 2] = 1.0
    beats = beats_of(np.convolve(clicks, np.hanning(64).astype(np.float32), mode="same"), SAMPLE_RATE)
    assert np.diff(beats) == pytest.approx(0.5, abs=0.04)


def test_each_beat_is_cut_in_four() -> None:
    rng = np.random.default_rng(0)
    grid = grid_of(np.arange(0.5, 30, 0.6), 30.0, rng)
    assert np.diff(grid) == pytest.approx(15)
    assert grid[0] == 50
    assert grid[-1] <= 3000


def test_a_quick_beat_counts_as_its_half_and_a_missing_one_is_made_up() -> None:
    rng = np.random.default_rng(0)
    assert np.diff(grid_of(np.arange(0, 30, 0.4), 30.0, rng)) == pytest.approx(20)
    for beats in (np.empty(0), np.array([3.0, 4.0])):
        grid = grid_of(beats, 30.0, rng)
        assert grid[0] <= 50
        assert 2900 < grid[-1] <= 3000
        assert 4 * 60 / 110 / 4 * 25 - 1 <= np.diff(grid).mean() <= 60 / 70 * 25 + 1


def test_syllables_begin_where_the_level_rises() -> None:
    starts = syllables_of(_words())
    assert starts[0] == 0
    assert starts[-1] == 239
    np.testing.assert_allclose(starts[1:-1], np.arange(1, 8) * 30, atol=5)


def test_silence_is_one_syllable() -> None:
    silent = Vocal(np.zeros(50, bool), np.zeros(50), np.zeros((50, 513)), np.ones((50, 513)))
    assert syllables_of(silent).tolist() == [0, 49]


def test_syllables_begin_on_the_grid_and_lines_end_in_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setitem(sys.modules, "pyworld", world)
    grid = np.arange(20, 2000, 15)
    doubled = 0
    for seed in range(10):
        world.asked.clear()
        spoken = rap(_words(), np.random.default_rng(seed), grid)
        doubled += len(world.asked) > 1
        assert spoken.dtype == np.float32
        assert len(spoken) == grid[-1] * 160
        level = spoken.reshape(-1, 160).mean(1)
        assert not level[:19].any()
        # The first frame of a syllable is its loudest: peaks in the level lie on the grid.
        steep = np.flatnonzero(np.diff(level) > 0.3 * level.max()) + 1
        assert len(steep) > 20
        assert np.mean(np.abs(steep[:, None] - grid[None]).min(1) <= 1) > (0.9 if len(world.asked) == 1 else 0.5)
        cells = np.array([np.median(level[first : first + 15]) for first in grid[:-1]])
        silent = cells < 0.01 * level.max()
        assert silent[: 2 * BAR].any()
        assert silent.mean() < 0.5
    assert 0 < doubled < 10


def test_the_pitch_stays_the_speakers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setitem(sys.modules, "pyworld", world)
    rap(_words(), np.random.default_rng(0), np.arange(0, 500, 15))
    assert world.asked[0].min() >= 0.85 * 110
    assert world.asked[0].max() <= 1.15 * 110
    voiceless = Vocal(np.zeros(50, bool), np.zeros(50), np.ones((50, 513)), np.ones((50, 513)))
    assert rap(voiceless, np.random.default_rng(0), np.arange(0, 200, 15)).shape == (195 * 160,)


def test_kinds_are_read_with_their_shares() -> None:
    assert kinds_from("") == KIND_WEIGHTS
    assert kinds_from("music=1, rapped+music=0.5") == {"music": 1.0, "rapped+music": 0.5}
    assert sum(KIND_WEIGHTS.values()) == pytest.approx(1.0)
    for wrong in ("noise=1", "music", "music=0", "music=nan", "music=inf", "music=-1", "music=x"):
        with pytest.raises(SettingsError):
            kinds_from(wrong)
