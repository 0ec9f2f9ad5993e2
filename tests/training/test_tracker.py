"""Tracker modules: a tiny one, played by the real player where it is installed, and by stand-ins that misbehave."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.training.pieces import PERIOD, tiny_module
from tunelab.training.tracker import GAIN_DB, PLAYER, RATE, find_modules, render_modules, rendered

needs_player = pytest.mark.skipif(shutil.which(PLAYER) is None, reason=f"needs {PLAYER}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "tune.mod").write_bytes(tiny_module())
    return tmp_path / "music"


def _player(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in for the player where it is looked for first; it must still find the system's own commands."""
    folder.mkdir()
    (folder / PLAYER).write_text(f"#!/bin/sh\n{script}\n")
    (folder / PLAYER).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@needs_player
def test_a_module_becomes_its_sound(folder: Path) -> None:
    (folder / "tune.mod").rename(folder / "-tune one.MOD")
    assert render_modules(folder) == 1
    [sound] = [path for path in folder.iterdir() if path.suffix == ".flac"]
    assert sound.name == "-tune one.MOD.rendered.flac"
    samples, rate = sf.read(sound)
    assert (rate, samples.ndim) == (RATE, 1)
    assert len(samples) / rate == pytest.approx(64 * 0.12, abs=0.5)
    middle = samples[rate : 3 * rate]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * rate / len(middle) == pytest.approx(8287 / PERIOD, rel=0.01)
    assert 0.01 < np.abs(samples).max() < 10 ** (GAIN_DB / 20)
    # The same module in another package is the same file.
    before = sound.read_bytes()
    sound.unlink()
    render_modules(folder)
    assert sound.read_bytes() == before


@needs_player
def test_what_is_rendered_stays(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    render_modules(folder)
    before = rendered(folder / "tune.mod").stat()
    _player(tmp_path / "bin", "exit 1", monkeypatch)
    (folder / "second.xm").write_bytes(b"Extended Module: not really")
    assert render_modules(folder) == 1
    assert rendered(folder / "tune.mod").stat() == before


@needs_player
def test_what_is_no_module_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "broken.it").write_bytes(b"IMPM and nothing more")
    assert render_modules(folder) == 1
    assert "broken.it: not rendered" in caplog.text
    assert sorted(path.name for path in folder.iterdir()) == ["broken.it", "tune.mod", "tune.mod.rendered.flac"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exec sleep 60", "not done within 0"),
        ("exit 3", "ended with code 3"),
        ("true", "tune.mod"),
        # The argument after --output.
        ('while [ "$1" != --output ]; do shift; done; printf "no sound" > "$2"', "tune.mod"),
    ],
    ids=["hangs", "fails", "writes nothing", "writes rubbish"],
)
def test_a_player_that_fails_leaves_nothing(
    script: str,
    reason: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _player(tmp_path / "bin", script, monkeypatch)
    assert render_modules(folder, timeout_s=0.3 if "sleep" in script else 60.0) == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert reason in caplog.text
    assert [path.name for path in folder.iterdir()] == ["tune.mod"]


def test_without_the_player(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PATH", str(folder))
    (folder / "done.s3m").touch()
    rendered(folder / "done.s3m").touch()
    assert render_modules(folder) == 1
    assert f"1 tracker modules are left out: {PLAYER} is not installed" in caplog.text
    rendered(folder / "tune.mod").touch()
    caplog.clear()
    assert render_modules(folder) == 2
    assert caplog.records == []


def test_modules_are_found_by_their_endings(folder: Path) -> None:
    (folder / "inner").mkdir()
    for name in ("b.XM", "inner/a.s3m", "c.it", "d.ogg", "e.txt"):
        (folder / name).touch()
    (folder / "link.mod").symlink_to(folder / "tune.mod")
    (folder / "folder.mod").mkdir()
    assert [path.name for path in find_modules(folder)] == ["b.XM", "c.it", "a.s3m", "tune.mod"]
