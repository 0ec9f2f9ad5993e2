"""What is done to music to sound as records do: it stays the same music, at the same level."""

import numpy as np
import pytest

from tunelab.training.augment import as_recorded, saturate
from tunelab.training.voice import SAMPLE_RATE, rms
from tunelab.types import FloatArray


def tone(hertz: float = 440.0) -> FloatArray:
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    return (0.4 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


@pytest.mark.parametrize("seed", range(20))
def test_a_record_has_the_shape_and_level_of_the_music(seed: int) -> None:
    music = tone()
    heard = as_recorded(music, np.random.default_rng(seed))
    assert heard.shape == music.shape
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()
    assert rms(heard) == pytest.approx(rms(music), rel=0.1)
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.argmax(spectrum) / 2 == pytest.approx(440, abs=1)


def test_most_music_stays_as_it_is_and_some_does_not() -> None:
    music = tone()
    same = [as_recorded(music, np.random.default_rng(seed)) is music for seed in range(200)]
    assert 0.4 < np.mean(same) < 0.7


def test_what_must_not_be_driven_is_not() -> None:
    music = tone()
    for seed in range(100):
        heard = as_recorded(music, np.random.default_rng(seed), driven=0.0)
        harmonic = np.abs(np.fft.rfft(heard))[[2 * 440, 2 * 1320]]
        assert harmonic[1] < 0.03 * harmonic[0]


def test_an_amplifier_bends_the_loud_parts() -> None:
    bent = saturate(tone(), 3.0)
    harmonics = np.abs(np.fft.rfft(bent))[[2 * 440, 2 * 880, 2 * 1320]]
    assert harmonics[2] > 0.1 * harmonics[0]
    assert harmonics[1] < 1e-3 * harmonics[0]  # it bends both ways alike
    assert np.abs(bent).max() < np.abs(tone()).max()
    assert np.abs(saturate(tone(), 0.01) - tone()).max() < 1e-3


def test_silence_stays_silent() -> None:
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert not saturate(silence, 2.0).any()
    assert all(not as_recorded(silence, np.random.default_rng(seed)).any() for seed in range(30))
