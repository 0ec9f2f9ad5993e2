"""MIDI files in packages become sound; those in WADs and compressed ones too; what is none is told."""

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from tunelab.training.compose import compose
from tunelab.training.corpus import build_manifest
from tunelab.training.midi import LARGEST, find_scores, played, render_midi, unpack_wads
from tunelab.training.scores import find_sound_fonts

needs_player = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not find_sound_fonts(), reason="needs fluidsynth and a sound font"
)
HALF = 'for a; do case $a in --fast-render=*) echo sound > "${a#*=}";; esac; done; exit 1'
"""What fluidsynth leaves when it is interrupted."""
SCORE = compose(np.random.default_rng(0), electronic=False, seconds=22).midi


def wad(lumps: list[bytes], magic: bytes = b"IWAD") -> bytes:
    """An archive of Doom's: header, lumps, directory."""
    starts = [12 + sum(map(len, lumps[:number])) for number in range(len(lumps))]
    directory = [struct.pack("<II8s", start, len(lump), b"D_E1M1") for start, lump in zip(starts, lumps, strict=True)]
    return b"".join([magic, struct.pack("<II", len(lumps), 12 + sum(map(len, lumps))), *lumps, *directory])


def test_a_wad_gives_its_scores_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "doom.WAD").write_bytes(wad([b"texture", SCORE, b"", SCORE[:40], b"MUS\x1a and no MIDI"]))
    unpack_wads(tmp_path)
    assert [path.name for path in find_scores(tmp_path)] == ["000.mid", "001.mid"]
    assert [path.read_bytes() for path in find_scores(tmp_path)] == [SCORE, SCORE[:40]]
    # Once: what is deleted there stays so.
    (tmp_path / "doom.WAD.lumps" / "001.mid").unlink()
    unpack_wads(tmp_path)
    assert len(list(find_scores(tmp_path))) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"IWAD",
        wad([SCORE], b"PACK"),
        wad([SCORE])[:-1],
        struct.pack("<4sII", b"IWAD", 1 << 31, 12),
        struct.pack("<4sII", b"IWAD", 1, (1 << 32) - 1),
    ],
)
def test_what_is_no_wad_gives_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.wad").write_bytes(content)
    unpack_wads(tmp_path)
    assert list(find_scores(tmp_path)) == []


@needs_player
def test_a_score_is_played_the_same_everywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, other = tmp_path / "un" / "one", tmp_path / "un" / "other"
    one.mkdir(parents=True)
    other.mkdir()
    (one / "tune.mid").write_bytes(SCORE)
    (other / "-the tune.MID.gz").write_bytes(gzip.compress(SCORE))
    assert render_midi(one) == 1
    assert render_midi(other) == 1
    sound = played(one / "tune.mid")
    assert sound.name == "tune.mid.played.flac"
    assert sound.read_bytes() == (other / "-the tune.MID.gz.played.flac").read_bytes()
    assert sorted(path.name for path in one.iterdir()) == ["tune.mid", sound.name]
    samples, rate = sf.read(sound)
    assert 20 < len(samples) / rate < 40
    assert np.abs(samples).max() > 0.01
    # The other one is a duplicate.
    assert build_manifest(tmp_path / "un", tmp_path / "manifest.parquet") == 1
    assert list(pd.read_parquet(tmp_path / "manifest.parquet").source) == ["score"]
    assert caplog.text == ""


@needs_player
def test_what_is_no_score_is_told_and_the_rest_played(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.mid").write_bytes(b"RIFF and no score")
    (tmp_path / "b.mid.gz").write_bytes(b"no gzip")
    (tmp_path / "c.mid.gz").write_bytes(gzip.compress(SCORE)[:-20])
    (tmp_path / "d.mid").write_bytes(SCORE + bytes(LARGEST))
    (tmp_path / "e.mid").write_bytes(SCORE)
    assert render_midi(tmp_path) == 1
    assert "a.mid: not played: no Standard MIDI File" in caplog.text
    assert "b.mid.gz: not played" in caplog.text
    assert "c.mid.gz: not played" in caplog.text
    assert "d.mid: not played: too long" in caplog.text
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "ended with code 3"),
        ("true", "tune.mid"),
        (HALF, "ended with code 1"),
    ],
)
def test_what_fluidsynth_leaves_behind_is_taken_away(
    tmp_path: Path, script: str, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "fluidsynth").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / "fluidsynth").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr("tunelab.training.midi.find_sound_fonts", lambda: [Path("some.sf2")])
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "tune.mid").write_bytes(SCORE)
    assert render_midi(tmp_path / "music") == 0
    assert reason in caplog.text
    assert [path.name for path in (tmp_path / "music").iterdir()] == ["tune.mid"]


def test_without_a_player_scores_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tune.mid").write_bytes(SCORE)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert render_midi(tmp_path) == 0
    assert "1 scores are left out" in caplog.text
