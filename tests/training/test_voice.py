import sys

import numpy as np
import pytest

from tests.training.world import World
from tunelab.training.melody import COMPASS, FRAMES_PER_SECOND, SCALES, bend, melody
from tunelab.training.tonality import MAJOR, MINOR
from tunelab.training.voice import SAMPLE_RATE, Vocal, _third_above, compress, rms, sing

RATE = 16_000


@pytest.mark.parametrize("scale", SCALES)
def test_melodies_stay_in_their_scale_and_register(scale: tuple[int, ...]) -> None:
    notes = melody(3000, np.random.default_rng(0), 2.0, scale, 50.0, 0.4)
    assert notes.shape == (3000,)
    assert {int(note - 2) % 12 for note in notes} <= set(scale)
    assert len(set(notes)) > 4
    assert 50 <= notes.min() < 55
    assert 60 < notes.max() <= 50 + COMPASS


def test_a_sung_note_is_near_its_pitch() -> None:
    notes = np.repeat([69.0, 71.0], 100)
    hertz = bend(notes, np.random.default_rng(0))
    assert 69 + 12 * np.log2(hertz[:90] / 440) == pytest.approx(np.full(90, 69), abs=1.0)
    assert 69 + 12 * np.log2(hertz[110:] / 440) == pytest.approx(np.full(90, 71), abs=1.0)


def test_a_third_above_is_in_the_scale() -> None:
    notes = np.array([60.0, 62, 64, 71, 72])
    assert _third_above(notes, 0.0, MAJOR).tolist() == [64, 65, 67, 74, 76]
    assert _third_above(notes - 60 + 45, 9.0, MINOR)[0] == 48
    sung = melody(5000, np.random.default_rng(1), 3.7, MAJOR, 45.0, 0.3)
    assert {round(step, 3) for step in _third_above(sung, 3.7, MAJOR) - sung} == {3.0, 4.0}


def test_compression_evens_levels_out_and_keeps_the_loudness() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=2 * RATE).astype(np.float32) * np.repeat([1.0, 0.1], RATE).astype(np.float32)
    evened = compress(samples, 0.5)
    before, after = (20 * np.log10(x[:RATE].std() / x[RATE:].std()) for x in (samples, evened))
    assert before == pytest.approx(20, abs=0.3)
    assert after == pytest.approx(10, abs=0.3)
    assert rms(evened) == pytest.approx(rms(samples), rel=1e-3)
    np.testing.assert_allclose(compress(samples, 0.0), samples, rtol=1e-5)
    assert not compress(np.zeros(100, np.float32), 0.5).any()


def test_vowels_are_stretched_and_sung_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setitem(sys.modules, "pyworld", world)
    voiced = np.tile(np.repeat([True, False], 50), 4)
    vocal = Vocal(voiced, np.where(voiced, 120.0, 0.0), np.ones((400, 513)), np.full((400, 513), 0.5))
    joined = 0
    for seed in range(12):
        world.asked.clear()
        sung = sing(vocal, np.random.default_rng(seed), (2, MAJOR))
        joined += len(world.asked) > 1
        for pitch in world.asked:
            assert 1.1 * 400 < len(pitch) < 2 * 400
            silent, sounding = np.count_nonzero(pitch == 0), pitch[pitch > 0]
            assert 0.85 * 200 < silent < 1.25 * 200
            assert len(sounding) > 1.25 * 200
            # Most frames are near a note of D major: vibrato and slides are not.
            off = (69 + 12 * np.log2(sounding / 440) - 2 + 0.5) % 12
            assert np.mean([int(place) % 12 in MAJOR for place in off]) > 0.6
        assert len(sung) == len(world.asked[0]) * SAMPLE_RATE // FRAMES_PER_SECOND
        assert sung.dtype == np.float32
    assert 0 < joined < 12
