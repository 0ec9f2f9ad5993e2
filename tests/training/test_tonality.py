import numpy as np
import numpy.typing as npt
import pytest

from tunelab.training.tonality import MAJOR, MINOR, TONAL_COLUMNS, key_of, pitch_classes, tonal_rows, tuning_of

RATE = 16_000
ROWS, STEP = 46, 10_240


def _chords(*chords: tuple[float, ...]) -> npt.NDArray[np.float32]:
    times = np.arange(RATE) / RATE
    parts = [sum(np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * times) for note in chord) for chord in chords]
    return (0.1 * np.concatenate(parts)).astype(np.float32)


def test_pitch_classes_of_a_chord() -> None:
    energy = pitch_classes(_chords((60, 64, 67)), RATE)
    assert energy.sum() == pytest.approx(1.0)
    assert set(np.argsort(energy)[-3:]) == {0, 4, 7}
    assert pitch_classes(np.zeros(RATE, np.float32), RATE).sum() == 0


@pytest.mark.parametrize("up", [0, 5, 11])
def test_the_key_of_a_cadence_is_heard(up: int) -> None:
    major = [(60, 64, 67), (65, 69, 72), (67, 71, 74), (60, 64, 67)]
    minor = [(60, 63, 67), (65, 68, 72), (67, 70, 74), (60, 63, 67)]
    for chords, scale in ((major, MAJOR), (minor, MINOR)):
        raised = [tuple(note + up for note in chord) for chord in chords]
        tonic, heard = key_of(_chords(*raised), RATE)
        assert tonic == pytest.approx(up, abs=0.02)
        assert heard == scale


@pytest.mark.parametrize("tuning", [-0.45, -0.2, 0.31])
def test_music_may_be_tuned_otherwise(tuning: float) -> None:
    chords = [(60, 64, 67), (65, 69, 72), (67, 71, 74), (60, 64, 67)]
    samples = _chords(*(tuple(note + tuning for note in chord) for chord in chords))
    assert tuning_of(samples, RATE) == pytest.approx(tuning, abs=0.03)
    tonic, scale = key_of(samples, RATE)
    assert tonic == pytest.approx(tuning, abs=0.03)
    assert scale == MAJOR
    assert set(np.argsort(pitch_classes(_chords(chords[0]), RATE))[-3:]) == {0, 4, 7}


def test_what_has_no_pitch_has_no_tuning() -> None:
    assert tuning_of(np.zeros(RATE, np.float32), RATE) == 0.0


def _cadences(*chords: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """30 s."""
    return np.resize(_chords(*chords), 30 * RATE)


def test_rows_know_their_chord_and_the_mode_around_it() -> None:
    rows = tonal_rows(_cadences((60, 64, 67), (65, 69, 72), (67, 71, 74), (60, 64, 67)), RATE, ROWS, STEP)
    assert rows.shape == (ROWS, TONAL_COLUMNS)
    assert np.square(rows[:, :12]).sum(1) == pytest.approx(np.ones(ROWS), abs=1e-4)
    # The first row lies in the first chord, the second on the border of two, the third in the second.
    assert set(np.argsort(rows[0, :12])[-3:]) == {0, 4, 7}
    assert set(np.argsort(rows[2, :12])[-3:]) == {5, 9, 0}
    minor = tonal_rows(_cadences((57, 60, 64), (62, 65, 69), (64, 67, 71), (57, 60, 64)), RATE, ROWS, STEP)
    assert rows[:, 12].min() > 0 > minor[:, 12].max()


def test_silence_has_no_key() -> None:
    rows = tonal_rows(np.zeros(30 * RATE, np.float32), RATE, ROWS, STEP)
    assert rows[:, :12] == pytest.approx(np.full((ROWS, 12), 12**-0.5))
    assert not rows[:, 12].any()


def test_the_level_does_not_count() -> None:
    samples = _cadences((60, 64, 67), (65, 69, 72))
    quiet = tonal_rows((0.01 * samples).astype(np.float32), RATE, ROWS, STEP)
    assert quiet == pytest.approx(tonal_rows(samples, RATE, ROWS, STEP), abs=1e-3)
