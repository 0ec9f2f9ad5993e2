"""Shares and activities of speech, and the network itself where its wheel is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from scipy.signal import lfilter

from tests.training.pieces import RATE, piece
from tunelab.training import silero
from tunelab.training.silero import FRAME, SileroVad, model_file, speech_activity, speech_share
from tunelab.types import FloatArray

needs_wheel = pytest.mark.skipif(find_spec("silero_vad") is None, reason="needs the wheel silero-vad")
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
"""Formants in Hz."""


def babble(seconds: float, seed: int = 0) -> FloatArray:
    """Vowels of a gliding voice, with hisses between them: about what speech is made of."""
    rng = np.random.default_rng(seed)
    size = int(seconds * RATE)
    pitch = 120 * 2 ** (0.3 * np.sin(2 * np.pi * 0.7 * np.arange(size) / RATE))
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) + 0.005 * rng.normal(size=size)
    voice = np.zeros(size)
    place = 0
    while place < size:
        syllable = pulses[place : place + int(RATE * rng.uniform(0.12, 0.25))]
        for hertz, width in zip(VOWELS[rng.integers(len(VOWELS))], (80, 90, 120), strict=True):
            radius = np.exp(-np.pi * width / RATE)
            feedback = [1, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2]
            syllable = lfilter([1 - radius], feedback, syllable)
        voice[place : place + len(syllable)] = syllable * np.hanning(len(syllable))
        place += len(syllable)
        hiss = voice[place : place + int(RATE * rng.uniform(0.03, 0.1))]
        hiss += 0.02 * np.abs(voice).max() * rng.normal(size=len(hiss))
        place += len(hiss)
    return (0.5 * voice / np.abs(voice).max()).astype(np.float32)


def test_share_counts_frames() -> None:
    probabilities = np.array([0.1, 0.5, 0.9, 0.49], np.float32)
    assert speech_share(probabilities) == 0.5
    assert speech_share(probabilities, 0.95) == 0.0
    assert speech_share(np.zeros(0, np.float32)) == 0.0


def test_activity_lines_up_with_its_steps() -> None:
    # Steps of two frames, the second of which is loud; then nothing.
    probabilities = np.array([0.0, 0.2, 1.0, 0.8, 0.4], np.float32)
    activity = speech_activity(probabilities, rows=4, step=2 * FRAME)
    np.testing.assert_allclose(activity, [0.1, 0.9, 0.4, 0.0], rtol=1e-6)
    assert activity.dtype == np.float32
    np.testing.assert_allclose(speech_activity(probabilities, rows=1, step=2 * FRAME), [0.1], rtol=1e-6)
    # Steps of 0.64 s are 20 frames.
    assert speech_activity(np.repeat([0, 1], 20).astype(np.float32), 2, 10_240).tolist() == [0, 1]


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        model_file()
    assert caught.value.name == "silero-vad"


@needs_wheel
def test_speech_is_told_from_music() -> None:
    network = SileroVad()
    assert speech_share(network(babble(6))) > 0.8
    assert speech_share(network(piece(0, 6))) < 0.1
    halves = network(np.concatenate([piece(0, 3.2), babble(3.2)]))
    first, second = speech_activity(halves, rows=2, step=int(3.2 * RATE))
    assert first < 0.2 < 0.7 < second
    assert "silero_vad" not in sys.modules


@needs_wheel
def test_blocks_leave_no_trace() -> None:
    network = SileroVad()
    samples = babble(20, seed=1)
    whole = network(samples)
    assert whole.shape == (-(-len(samples) // FRAME),)
    assert network(samples[:100]).shape == (1,)
    assert network(samples[:0]).shape == (0,)
    # What comes later changes nothing before it, across blocks as well.
    np.testing.assert_allclose(network(samples[: 600 * FRAME]), whole[:600], atol=1e-6)
