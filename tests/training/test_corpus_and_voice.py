import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr

from tests.training.pieces import RATE, piece, tiny_module
from tunelab.errors import SettingsError
from tunelab.training.augment import EQUALISER_HZ, equalise
from tunelab.training.corpus import build_manifest, split_of, summary
from tunelab.training.download import download_packages, missing_packages, unpack
from tunelab.training.tracker import PLAYER
from tunelab.training.voice import mix, rms


def _tone(path: Path, seconds: float, hertz: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * 8000)) / 8000), 8000)


def test_manifest_lists_music_by_length_once(tmp_path: Path) -> None:
    music = tmp_path / "un" / "some-game" / "usr" / "share"
    _tone(music / "long.wav", 21, 440)
    _tone(music / "short.wav", 3, 440)
    shutil.copy(music / "long.wav", music / "again.wav")
    (music / "broken.ogg").write_bytes(b"OggS, then nothing")
    licence = music / "doc" / "some-game" / "copyright"
    licence.parent.mkdir(parents=True)
    licence.write_text("License: CC0\n")
    _tone(tmp_path / "member.wav", 22, 330)
    with zipfile.ZipFile(music / "data.pk3", "w") as archive:
        archive.write(tmp_path / "member.wav", "../../escape.wav")
    _tone(tmp_path / "un" / "klettres-data" / "a.wav", 1, 300)
    assert build_manifest(tmp_path / "un", tmp_path / "manifest.parquet") == 3
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert sorted(table.kind) == ["music", "music", "speech"]
    assert set(table.split[table.package == "klettres-data"]) == {"heldout"}
    assert table.licence.str.endswith("copyright").sum() == 2
    assert sorted(table.source) == ["archive", "file", "file"]
    assert not (tmp_path / "escape.wav").exists()
    assert build_manifest(tmp_path / "un", tmp_path / "manifest.parquet") == 3


def _package(split: str, number: int = 0) -> str:
    names = [name for name in map("game-{}".format, range(60)) if split_of(name) == split]
    return names[number]


def test_a_recording_is_listed_once_and_never_on_both_sides(tmp_path: Path) -> None:
    train, held = _package("train"), _package("heldout")
    tune, other = piece(1, 25), piece(2, 25)
    for package, name, samples, rate in (
        (train, "a.flac", tune, RATE),
        (train, "b.wav", other, RATE),
        (held, "again.ogg", soxr.resample(0.5 * tune, RATE, 44_100), 44_100),
    ):
        (tmp_path / "un" / package).mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path / "un" / package / name, samples, rate)
    assert build_manifest(tmp_path / "un", tmp_path / "manifest.parquet") == 2
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert set(table.path) == {f"{train}/b.wav", f"{held}/again.ogg"}
    dropped = pd.read_csv(tmp_path / "duplicates.csv")
    assert [tuple(row) for row in dropped[["path", "same_as"]].to_numpy()] == [(f"{train}/a.flac", f"{held}/again.ogg")]
    [line] = summary(tmp_path / "manifest.parquet")
    assert line == "music: 2 tracks, 0.0 h (2 file) of 2 packages, 1 held out; 1 duplicates left out"


def test_of_stems_only_the_mix_is_listed(tmp_path: Path) -> None:
    songs = tmp_path / "un" / "fretsonfire-songs-nobody" / "songs"
    for name, samples in (("song", piece(3, 21)), ("guitar", piece(4, 21))):
        (songs / "one").mkdir(parents=True, exist_ok=True)
        sf.write(songs / "one" / f"{name}.ogg", samples, RATE)
    assert build_manifest(tmp_path / "un", tmp_path / "manifest.parquet") == 1
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert table.path[0].endswith("one/mixed.flac")
    assert table.source[0] == "stems"


@pytest.mark.skipif(shutil.which(PLAYER) is None, reason=f"needs {PLAYER}")
def test_long_modules_are_listed_also_from_archives(tmp_path: Path) -> None:
    folder = tmp_path / "un" / "some-game"
    folder.mkdir(parents=True)
    (folder / "short.mod").write_bytes(tiny_module())
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        archive.writestr("music/long.mod", tiny_module(patterns=4))
    assert build_manifest(tmp_path / "un", tmp_path / "manifest.parquet") == 1
    table = pd.read_parquet(tmp_path / "manifest.parquet")
    assert table.source[0] == "tracker"
    assert table.seconds[0] == pytest.approx(4 * 64 * 0.12, abs=1)


def test_an_empty_corpus_has_columns(tmp_path: Path) -> None:
    (tmp_path / "un").mkdir()
    assert build_manifest(tmp_path / "un", tmp_path / "manifest.parquet") == 0
    assert {"path", "split", "source", "sha256"} <= set(pd.read_parquet(tmp_path / "manifest.parquet").columns)
    with pytest.raises(SettingsError, match="no folder nowhere"):
        build_manifest(tmp_path / "nowhere", tmp_path / "manifest.parquet")


def test_a_package_that_vanished_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name, script in (
        ("apt-get", '[ "$2" = there ] && echo archive > there_1.deb'),
        ("dpkg", 'mkdir -p "$3/usr" && cat "$2" > "$3/usr/file"'),
    ):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    packages = ("gone", "there", "gone-too")
    assert list(download_packages(tmp_path / "un", tmp_path / "debs", packages)) == ["gone", "gone-too"]
    assert [path.name for path in (tmp_path / "un").iterdir()] == ["there"]
    assert list((tmp_path / "debs").iterdir()) == []
    assert missing_packages(tmp_path / "un", packages) == ["gone", "gone-too"]


def test_split_depends_on_the_name_alone() -> None:
    assert {split_of(f"package-{n}") for n in range(60)} == {"train", "heldout"}
    assert split_of("festvox-ru") == "train"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg")
def test_unpacking_is_whole_or_not_at_all(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN" / "control").write_text(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: tiny\n"
    )
    _tone(source / "usr" / "share" / "tiny.wav", 1, 200)
    subprocess.run(["dpkg-deb", "--build", str(source), str(tmp_path / "tiny.deb")], check=True, capture_output=True)
    assert unpack(tmp_path / "tiny.deb", tmp_path / "tiny")
    assert (tmp_path / "tiny" / "usr" / "share" / "tiny.wav").is_file()
    (tmp_path / "bad.deb").write_bytes(b"not an archive")
    assert not unpack(tmp_path / "bad.deb", tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("level", [-8.0, 0.0, 9.0])
def test_mixing_level_is_right_to_a_tenth_of_a_decibel(level: float) -> None:
    rng = np.random.default_rng(0)
    music = (0.05 * rng.normal(size=16_000)).astype(np.float32)
    voice = np.zeros(16_000, np.float32)
    voice[4000:8000] = rng.normal(size=4000)
    added = mix(music, voice, level) - music
    assert 20 * np.log10(rms(added) / rms(music)) == pytest.approx(level, abs=0.1)


def test_equaliser_has_the_set_gain_at_its_frequencies() -> None:
    times = np.arange(32_000) / 16_000
    for hertz, decibels in zip(EQUALISER_HZ, (6.0, -6.0, 3.0, 0.0, -3.0), strict=True):
        tone = np.sin(2 * np.pi * hertz * times).astype(np.float32)
        heard = equalise(tone, np.array([6.0, -6.0, 3.0, 0.0, -3.0]))
        assert heard.dtype == np.float32
        assert 20 * np.log10(heard.std() / tone.std()) == pytest.approx(decibels, abs=0.1)


def test_silence_is_mixed_as_it_is() -> None:
    voice = np.ones(100, np.float32)
    assert np.array_equal(mix(np.zeros(100, np.float32), voice, 3.0), voice)
