"""Stems are mixed into one file a song, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tunelab.training.stems import find_songs, mix_files, mix_stems

RATE = 8000


def _tone(path: Path, hertz: float, seconds: float = 2.0, *, level: float = 0.3, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(int(seconds * rate)) / rate
    sf.write(path, level * np.sin(2 * np.pi * hertz * times), rate)


def _level(path: Path, hertz: float, start: float = 0.0) -> float:
    """Amplitude of one tone in a second of a file."""
    samples, rate = sf.read(path)
    part = samples[int(start * rate) : int((start + 1) * rate)]
    return float(2 * np.abs(np.mean(part * np.exp(-2j * np.pi * hertz * np.arange(len(part)) / rate))))


@pytest.fixture
def song(tmp_path: Path) -> Path:
    folder = tmp_path / "songs" / "A song"
    _tone(folder / "song.ogg", 440)
    _tone(folder / "guitar.ogg", 1000, 3.0, level=0.2)
    _tone(folder / "drums.ogg", 2000, level=0.1, rate=2 * RATE)
    _tone(folder / "preview.ogg", 3000)
    return folder


def test_a_song_is_the_sum_of_its_stems(song: Path) -> None:
    assert mix_stems(song.parent) == 1
    mixed = song / "mixed.flac"
    assert sf.info(mixed).samplerate == RATE
    assert sf.info(mixed).duration == pytest.approx(3.0, abs=0.01)
    levels = [_level(mixed, hertz) for hertz in (440, 1000, 2000, 3000)]
    assert levels == pytest.approx([0.3, 0.2, 0.1, 0.0], abs=0.02)
    # The longest stem goes on alone.
    assert _level(mixed, 440, 2.0) < 0.02
    assert _level(mixed, 1000, 2.0) == pytest.approx(0.2, abs=0.02)
    assert {path.suffix for path in song.iterdir()} == {".ogg", ".flac"}


def test_what_is_mixed_stays(song: Path) -> None:
    mix_stems(song.parent)
    before = (song / "mixed.flac").stat()
    (song / "guitar.ogg").unlink()
    assert mix_stems(song.parent) == 1
    assert (song / "mixed.flac").stat() == before


def test_full_scale_is_kept(tmp_path: Path) -> None:
    for name in ("song", "guitar"):
        _tone(tmp_path / f"{name}.wav", 400, level=0.8)
    samples, _ = mix_files([tmp_path / "song.wav", tmp_path / "guitar.wav"])
    assert samples.dtype == np.float32
    assert np.abs(samples).max() == pytest.approx(1.0)


def test_a_broken_stem_is_told(song: Path, caplog: pytest.LogCaptureFixture) -> None:
    (song / "guitar.ogg").write_bytes(b"OggS")
    _tone(song.parent / "B song" / "song.ogg", 440)
    assert mix_stems(song.parent) == 1
    assert "A song: not mixed" in caplog.text
    assert not (song / "mixed.flac").exists()
    assert (song.parent / "B song" / "mixed.flac").exists()


def test_songs_are_folders_with_a_song(song: Path) -> None:
    _tone(song.parent / "effects" / "guitar.ogg", 440)
    assert [[path.name for path in stems] for stems in find_songs(song.parent)] == [
        ["song.ogg", "guitar.ogg", "drums.ogg"]
    ]
