"""Synthetic singers sing known notes, and are drawn where they fit the music's key."""

import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from tunelab.errors import SettingsError
from tunelab.training import renderer
from tunelab.training.corpus import build_manifest
from tunelab.training.festival import NOTES, PROGRAM, VOICES, key_of_song, render_songs, song
from tunelab.training.tonality import MAJOR, MINOR, key_of
from tunelab.training.voice import SAMPLE_RATE

needs_program = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"needs festival's {PROGRAM}")


class StandIn:
    """Writes a second of a tone where festival would write; for the voice ``mute`` nothing, ``crash`` dies."""

    def __init__(self, mute: str = "", crash: str = "") -> None:
        self.mute, self.crash, self.commands = mute, crash, 0
        self._lock = threading.Lock()

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        with self._lock:  # songs are sung side by side
            self.commands = number = self.commands + 1
        if self.crash and f"(voice_{self.crash})" in command:
            return subprocess.CompletedProcess(command, -11)
        if not (self.mute and f"(voice_{self.mute})" in command):
            times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
            tone = 0.3 * np.sin(2 * np.pi * (200 + number) * times)
            sf.write(command[command.index("-o") + 1], tone, SAMPLE_RATE, format="WAV")
        return subprocess.CompletedProcess(command, 0)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    program = StandIn()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda command, **options: program(command, **options))
    return program


def test_songs_are_listed_as_singing_for_training_alone(tmp_path: Path, stand_in: StandIn) -> None:
    assert render_songs(tmp_path / "un", 13) == 13 * len(VOICES)
    assert render_songs(tmp_path / "un", 14) == len(VOICES)
    assert not list(tmp_path.rglob("*.xml"))
    build_manifest(tmp_path / "un", tmp_path / "manifest.parquet")
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert len(table) == 14 * len(VOICES) == stand_in.commands
    assert set(table.kind) == {"singing"}
    assert set(table.split) == {"train"}
    assert table.licence.str.endswith("copyright").all()
    assert {key_of_song(path) for path in table.path} == {(t, "major") for t in range(12)} | {
        (0, "minor"),
        (1, "minor"),
    }


def test_a_voice_that_is_missing_is_told_and_a_crash_costs_one_song(tmp_path: Path, stand_in: StandIn) -> None:
    stand_in.crash = "czech_krb"
    assert render_songs(tmp_path, 2) == 2 * (len(VOICES) - 1)
    stand_in.crash, stand_in.mute = "", "czech_krb"
    with pytest.raises(SettingsError, match="festvox-czech-krb"):
        render_songs(tmp_path, 2)
    assert not list(tmp_path.rglob("*.part"))


def test_a_song_that_hangs_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", hang)
    assert render_songs(tmp_path, 1) == 0
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".xml", ".part"}]


def test_a_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SettingsError, match=PROGRAM):
        render_songs(tmp_path, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("language", sorted({language for _, language, _ in VOICES.values()}))
def test_a_song_keeps_to_its_key_and_its_register(language: str) -> None:
    text = song(np.random.default_rng(5), language, 2, MAJOR, 50.0)
    assert text.isascii()
    hertz = np.array([float(number) for number in re.findall(r'FREQ="([\d.]+)"', text)])
    assert NOTES[0] <= len(hertz) < NOTES[1]
    notes = 69 + 12 * np.log2(hertz / 440)
    assert notes.min() >= 49.99
    assert notes.max() <= 69.01
    assert set(np.round(notes - 2).astype(int) % 12) <= set(MAJOR)
    assert text == song(np.random.default_rng(5), language, 2, MAJOR, 50.0)


def test_singers_are_drawn_in_the_key_of_the_music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Songs of one tone each, their tonic; the music is a chord of A minor, a quarter of a semitone sharp."""
    times = np.arange(40 * SAMPLE_RATE) / SAMPLE_RATE
    rows: list[dict[str, object]] = []
    for tonic in range(12):
        for mode in ("major", "minor"):
            path = f"{tonic:02d}-{mode}-0000.wav"
            hertz = 440 * 2 ** ((48 + tonic - 69) / 12) * (2 if mode == "minor" else 1)
            sf.write(tmp_path / path, 0.3 * np.sin(2 * np.pi * hertz * times[: 10 * SAMPLE_RATE]), SAMPLE_RATE)
            rows.append({"path": path, "package": "singer", "kind": "singing", "seconds": 10.0})
    notes = np.array([57, 60, 64, 69]) + 0.25
    chord = np.sin(2 * np.pi * 440 * 2 ** ((notes[:, None] - 69) / 12) * times).sum(0)
    sf.write(tmp_path / "music.wav", 0.1 * chord, SAMPLE_RATE)
    rows.append({"path": "music.wav", "package": "music", "kind": "music", "seconds": 40.0})
    rows.append({"path": "nobody.wav", "package": "nobody", "kind": "speech", "seconds": 1.0})
    pd.DataFrame(rows).assign(split="train").to_parquet(tmp_path / "manifest.parquet")
    drawn = renderer.Renderer(tmp_path / "manifest.parquet", tmp_path, "train", 3)
    monkeypatch.setattr(renderer, "SONG_SHARE", 1.0)
    music = (0.1 * chord[: 30 * SAMPLE_RATE]).astype(np.float32)
    heard, scale = key_of(music, SAMPLE_RATE)
    assert heard == pytest.approx(9.25, abs=0.1)
    assert scale == MINOR
    found = []
    for _ in range(20):
        sung = drawn._singing(music)[: 5 * SAMPLE_RATE]
        spectrum = np.abs(np.fft.rfft(sung * np.hanning(len(sung))))
        found.append(69 + 12 * np.log2(spectrum.argmax() / 5 / 440))
    # The tonic, an octave up as those in minor are here; now and then singers do not care.
    in_key = sum(note == pytest.approx(69.25, abs=0.1) for note in found)
    assert in_key >= 12


@needs_program
def test_the_program_sings_the_notes_that_it_is_given(tmp_path: Path) -> None:
    import librosa

    try:
        render_songs(tmp_path, 2)
    except SettingsError as error:
        pytest.skip(str(error))
    for file in sorted(tmp_path.glob("*/01-major-*.wav")):
        samples, rate = sf.read(file, dtype="float32")
        assert 5 < len(samples) / rate < 90
        pitch = librosa.yin(samples[: 12 * rate], fmin=70, fmax=700, sr=rate)
        steps = np.round(69 + 12 * np.log2(pitch / 440)).astype(int) % 12
        # In the key of C sharp; what lies between are slides.
        assert np.isin(steps, [(1 + step) % 12 for step in MAJOR]).mean() > 0.75, file.parent.name
