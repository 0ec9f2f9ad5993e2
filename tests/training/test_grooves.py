"""Accompaniments: what is written down of them is what is played; and they land in the right packages."""

import csv
import io
import shutil
from pathlib import Path

import mido
import numpy as np
import pytest

from tunelab.errors import SettingsError
from tunelab.training import grooves
from tunelab.training.compose import STEPS
from tunelab.training.grooves import (
    LIBRARY,
    NOTES,
    Chart,
    Groove,
    find_grooves,
    instruments_of,
    package_of,
    render_grooves,
    write_chart,
)

WALTZ = """
// A waltz.
Time 3
Timesig 3 4
DefGroove SlowWaltz  Slow.
defgroove SlowWaltzSus
DefGroove SlowWaltzIntro
DefGroove SlowWaltzFill1
DefGroove SlowWaltz
"""


def _library(folder: Path) -> Path:
    folder.mkdir()
    (folder / "waltz.mma").write_text(WALTZ)
    (folder / "five.mma").write_text("Time 5\nDefGroove Five\n")
    (folder / "both.mma").write_text("Time 4\nDefGroove Four\nTime 3\nDefGroove Three\n")
    (folder / "plain.mma").write_bytes(b"// caf\xe9\nDefGroove Plain\n")
    return folder


def _midi(*notes: tuple[int, int, int]) -> bytes:
    """A file of (channel, program, notes)."""
    song, file = mido.MidiFile(), io.BytesIO()
    for channel, program, count in notes:
        track = mido.MidiTrack()
        track.append(mido.Message("program_change", channel=channel, program=program))
        for _ in range(count):
            track.append(mido.Message("note_on", channel=channel, note=60, velocity=80, time=10))
            track.append(mido.Message("note_on", channel=channel, note=60, velocity=0, time=10))
        song.tracks.append(track)
    song.save(file=file)
    return file.getvalue()


def test_grooves_of_a_library(tmp_path: Path) -> None:
    found = find_grooves(_library(tmp_path / "stdlib"))
    assert found == [Groove("Plain", "plain", 4), Groove("SlowWaltz", "waltz", 3), Groove("SlowWaltzSus", "waltz", 3)]


@pytest.mark.parametrize("seed", range(8))
def test_a_chart_is_what_it_says(seed: int) -> None:
    groove = Groove("SlowWaltz", "waltz", 3)
    chart = write_chart(groove, np.random.default_rng(seed), 20.0)
    lines = chart.text.splitlines()
    assert lines[0].startswith("RndSeed ")
    assert lines[1:4] == [f"Tempo {chart.tempo}", "Use stdlib/waltz", "Groove SlowWaltz"]
    bars = [line.split() for line in lines[4:]]
    assert [int(number) for number, _ in bars] == list(range(1, len(bars) + 1))
    assert 20 <= len(bars) * 3 * 60 / chart.tempo < 20 + 3 * 60 / chart.tempo
    roots = [NOTES.index(chord[:2] if chord[1:2] in ("#", "b") else chord[0]) for _, chord in bars]
    assert set(roots) <= {(chart.tonic + step) % 12 for step in STEPS[chart.mode]}
    assert roots[0] == chart.tonic
    assert bars[0][1].removeprefix(NOTES[chart.tonic]) == {"major": "", "minor": "m"}[chart.mode]
    assert write_chart(groove, np.random.default_rng(seed), 20.0) == chart


def test_instruments_are_told_by_their_notes() -> None:
    assert instruments_of(_midi((0, 24, 2), (1, 32, 5), (2, 48, 0))) == ((32, 24), False)
    assert instruments_of(_midi((0, 24, 2), (9, 0, 5))) == ((24,), True)
    assert instruments_of(_midi((9, 0, 5))) == ((), True)


def test_bands_without_electricity_are_kept_apart() -> None:
    waltz = Groove("SlowWaltz", "waltz", 3)
    assert package_of(waltz, (0, 32)).startswith("rendered-acoustic-grooves-")
    for program in (4, 18, 26, 33, 38, 52, 81, 90):
        assert package_of(waltz, (0, program)).startswith("rendered-mixed-grooves-")
    # Held out together or not at all.
    assert package_of(waltz, (0,)) == package_of(Groove("SlowWaltzSus", "waltz", 3), (46,))


def test_packages_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, played = _library(tmp_path / "stdlib"), []

    def play(player: str, chart: Chart, scratch: Path) -> bytes:
        played.append(chart)
        # One that MMA refuses, one of drums alone, and the others.
        return [b"", _midi((9, 0, 3))][len(played) - 1] if len(played) <= 2 else _midi((0, 24, 3))

    def synthesise(synthesizer: str, midi: bytes, font: Path, audio: Path, rng: np.random.Generator) -> None:
        audio.write_bytes(midi)

    monkeypatch.setattr(grooves, "_play", play)
    monkeypatch.setattr(grooves, "synthesise", synthesise)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    fonts = [Path("TimGM6mb.sf2")]
    assert render_grooves(tmp_path / "un", 6, fonts, library) == 4
    tables = sorted((tmp_path / "un").glob("rendered-acoustic-grooves-*/pieces.csv"))
    rows = [row for path in tables for row in csv.DictReader(path.read_text().splitlines())]
    assert sorted(row["file"] for row in rows) == [f"{number:04d}.flac" for number in range(2, 6)]
    assert {row["programs"] for row in rows} == {"(24,)"}
    assert {path.name for table in tables for path in table.parent.glob("*.flac")} == {row["file"] for row in rows}
    assert all(70 <= int(row["tempo"]) < 190 for row in rows)
    licence = (tables[0].parent / "usr" / "share" / "doc" / tables[0].parent.name / "copyright").read_text()
    assert licence == "License: GPL-2\nLicense: GPL-2+\n"
    # The two that were skipped can be played now; the others are not rendered again.
    assert render_grooves(tmp_path / "un", 6, fonts, library) == 2


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="mma, fluidsynth and a sound font"):
        render_grooves(tmp_path, 1, [])


@pytest.mark.skipif(shutil.which("mma") is None, reason="mma is not installed")
def test_mma_plays_our_charts(tmp_path: Path) -> None:
    found = [groove for groove in find_grooves() if groove.file in ("bossanova", "waltz", "basicrock")]
    assert {groove.metre for groove in found} == {3, 4}
    assert LIBRARY.name == "stdlib"
    for groove in found[::4]:
        chart = write_chart(groove, np.random.default_rng(0), 10.0)
        midi = grooves._play("mma", chart, tmp_path / "x")
        programs, _ = instruments_of(midi)
        assert programs, groove
        seconds = mido.MidiFile(file=io.BytesIO(midi)).length
        assert 8 < seconds < 16
    assert grooves._play("mma", Chart("Groove NoSuchGroove\n1 C\n", 100, 0, "major"), tmp_path / "x") == b""
    assert not list(tmp_path.iterdir())
