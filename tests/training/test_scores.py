"""Made-up pieces: what is written down of them is what sounds; and what is known of them reaches the labels."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tunelab.errors import SettingsError
from tunelab.training.augment import end_band
from tunelab.training.compose import ACOUSTIC, DRUMS, ELECTRONIC, STEPS, TICKS, compose
from tunelab.training.kinds import ACOUSTIC_SCORE, ELECTRONIC_SCORE
from tunelab.training.labels import Labeller
from tunelab.training.musicnn import TAGS
from tunelab.training.scores import PACKAGES, find_sound_fonts, render_scores
from tunelab.training.voice import SAMPLE_RATE


def events(midi: bytes) -> list[tuple[int, bytes]]:
    """Read one track back: (tick, message). A reader of its own, so that the writer does not judge itself."""
    assert midi[:4] == b"MThd"
    assert midi[14:18] == b"MTrk"
    assert int.from_bytes(midi[18:22], "big") == len(midi) - 22
    found, tick, place = [], 0, 22
    while place < len(midi):
        delta = 0
        while True:
            byte = midi[place]
            place += 1
            delta = delta << 7 | byte & 0x7F
            if byte < 0x80:
                break
        tick += delta
        status = midi[place]
        size = 3 + midi[place + 2] if status == 0xFF else 2 if status >> 4 == 0xC else 3
        found.append((tick, midi[place : place + size]))
        place += size
    return found


@pytest.mark.parametrize("electronic", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_a_piece_is_what_it_says(seed: int, electronic: bool) -> None:
    piece = compose(np.random.default_rng(seed), electronic=electronic, seconds=20)
    found = events(piece.midi)
    assert found[-1][1] == b"\xff\x2f\x00"
    assert int.from_bytes(found[0][1][3:], "big") == 60_000_000 // piece.tempo
    # Those that are named are those that are heard.
    heard = {message[0] & 15 for _, message in found if message[0] >> 4 == 9 and message[2]}
    chosen = [message for _, message in found if message[0] >> 4 == 0xC]
    assert tuple(message[1] for message in chosen if message[0] & 15 in heard) == piece.programs
    programs = [message[1] for message in chosen]
    families = ELECTRONIC if electronic else ACOUSTIC
    assert any(all(p in choices for p, choices in zip(programs, family, strict=True)) for family in families)
    notes = [(tick, message) for tick, message in found if message[0] >> 4 == 9]
    scale = {(piece.tonic + step) % 12 for step in STEPS[piece.mode]}
    assert {message[1] % 12 for _, message in notes if message[0] & 15 != DRUMS} <= scale
    assert any(message[0] & 15 == DRUMS for _, message in notes) == piece.drums
    seconds = max(tick for tick, _ in notes) / TICKS * 60 / piece.tempo
    assert 15 < seconds < 20 + 60 / piece.tempo * piece.metre
    # What begins also ends.
    sounding: dict[tuple[int, int], int] = {}
    for _, message in found:
        if message[0] >> 4 in (8, 9):
            key = (message[0] & 15, message[1])
            sounding[key] = sounding.get(key, 0) + (1 if message[0] >> 4 == 9 else -1)
    assert set(sounding.values()) == {0}


def test_the_same_seed_is_the_same_piece_and_another_is_not() -> None:
    one, again, other = (compose(np.random.default_rng(seed), electronic=False, seconds=10) for seed in (1, 1, 2))
    assert one == again
    assert one.midi != other.midi


@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not find_sound_fonts(), reason="fluidsynth and a sound font are not installed"
)
def test_pieces_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = (PACKAGES[0], PACKAGES[-1])
    monkeypatch.setattr("tunelab.training.scores.PACKAGES", packages)
    monkeypatch.setattr("tunelab.training.scores.SECONDS", 15.0)
    fonts = find_sound_fonts()[-1:]
    assert render_scores(tmp_path, 1, fonts) == len(packages)
    assert render_scores(tmp_path, 1, fonts) == 0
    for package in packages:
        info = sf.info(tmp_path / package / "000.flac")
        assert 13 < info.duration < 35
        samples, _ = sf.read(tmp_path / package / "000.flac")
        assert 0.02 < np.abs(samples).max() <= 1
        (row,) = csv.DictReader((tmp_path / package / "pieces.csv").read_text().splitlines())
        assert row["sound_font"] == fonts[0].name


def test_rendering_without_a_sound_font_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="sound font"):
        render_scores(tmp_path, 1, [])


def test_what_is_known_of_rendered_music_overrules_the_teachers() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.2, 0.8, (300, 7)).astype(np.float32)
    tags = rng.normal(-4, 2, (300, len(TAGS))).astype(np.float32)
    known = np.zeros((300, 4), np.float32)
    labeller = Labeller.measure(scores, tags, known)
    plain = labeller(scores, tags, known)
    for kind, low, high in ((ACOUSTIC_SCORE, 0.9, 1.0), (ELECTRONIC_SCORE, 0.0, 0.1)):
        known[:, 0] = kind
        labels = labeller(scores, tags, known)
        assert low < labels["acousticness"].min() <= labels["acousticness"].max() < high
        assert labels["instrumentalness"].min() >= 0.9
        assert np.array_equal(labels["energy"], plain["energy"])


def test_the_end_of_the_band_is_taken_away_and_nothing_below() -> None:
    times = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    low, high = (np.sin(2 * np.pi * hertz * times).astype(np.float32) for hertz in (1000, 6000))
    ended = end_band(0.5 * low + 0.5 * high, 5000)
    np.testing.assert_allclose(ended, low / np.abs(low).max(), atol=1e-3)
    assert np.abs(ended).max() == pytest.approx(1)
