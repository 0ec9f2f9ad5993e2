"""``tunelab timeline`` as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.conftest import Command
from tunelab.timeline.plot import save_plot
from tunelab.types import HEADS, Section, Timeline, clock

SMALL = ("--bundle", "small-v1", "--engine", "torch")


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """33 s: noise, then silence from 15 to 20 s."""
    path = tmp_path_factory.mktemp("track") / "a track.flac"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 33 * 8000)
    samples[15 * 8000 : 20 * 8000] = 0.0
    soundfile.write(path, samples, 8000)
    return path


def test_table(command: Command, track: Path) -> None:
    lines = command("timeline", *SMALL, track).stdout.splitlines()
    assert lines[0].split() == ["time", "energy", "dance", "happy", "acoust", "instr", "speech", "section"]
    assert [line.split()[0] for line in lines[1:-2]] == ["0:00", "0:05", "0:10", "0:15", "0:20", "0:25", "0:30"]
    assert lines[1].split()[-1] == "A"
    assert lines[4].split()[1:] == ["-"] * 6  # silent, and no section
    assert lines[-2].split()[0] == "track"
    assert len(lines[-2].split()) == 7
    assert lines[-1].startswith("sections: A 0:00-0:15, silence 0:15-0:20, ")
    assert lines[-1].endswith("-0:33")


def test_json(command: Command, track: Path) -> None:
    answer = json.loads(command("timeline", *SMALL, track, "--step", "10", "--format", "json").stdout)
    assert list(answer) == ["path", "start_s", "end_s", *HEADS, "sections", "track", "duration_s", "model"]
    assert answer["path"] == str(track)
    assert answer["start_s"] == [0, 10, 20]
    assert answer["end_s"] == [10, 20, 33]
    assert all(len(answer[head]) == 3 for head in HEADS)
    assert (answer["duration_s"], answer["model"]) == (33.0, "small-v1")


def test_plot(command: Command, track: Path, tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    result = command("timeline", *SMALL, track, "--plot", picture)
    assert "sections:" in result.stdout
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (width, height) == (1430, 676)
    command("timeline", *SMALL, track, "--plot", tmp_path / "nowhere" / "out.png", code=2)


def test_plots_of_odd_tracks(tmp_path: Path) -> None:
    """Hours, a second, many sections, no heads but one; names that matplotlib would read as formulas."""
    many = tuple(Section(10.0 * n, 10.0 * n + 10, chr(65 + n % 20)) for n in range(360))
    timelines = [
        Timeline((0.0,), (1.0,), {"energy": (0.5,)}, (Section(0.0, 1.0, "A"),), {"energy": 0.5}, 5.0, 1.0, "m"),
        Timeline(
            tuple(np.arange(0, 3600, 5.0)),
            tuple(np.arange(5, 3605, 5.0)),
            dict.fromkeys(HEADS, (0.1, None) * 360),
            many,
            dict.fromkeys(HEADS, 0.1),
            5.0,
            3600.0,
            "m",
        ),
    ]
    for number, timeline in enumerate(timelines):
        save_plot(timeline, tmp_path / f"{number}.png", "$x_{1 and \\no} such song.mp3")
        assert (tmp_path / f"{number}.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("--step", "0.5"),
        ("--step", "31"),
        ("--step", "nan"),
        ("--format", "csv"),
        ("--engine", "magic"),
        ("--timeout", "inf"),
        ("--max-duration", "nan"),
    ],
)
def test_senseless_arguments(command: Command, track: Path, arguments: tuple[str, ...]) -> None:
    command("timeline", "--bundle", "small-v1", track, *arguments, code=2)


def test_files_that_fail(command: Command, track: Path, tmp_path: Path) -> None:
    result = command("timeline", *SMALL, tmp_path / "missing.mp3", code=1)
    assert result.stderr.strip().endswith("missing.mp3: No such file or directory")
    assert not result.stdout
    (tmp_path / "text.mp3").write_text("no music")
    for arguments in ((tmp_path / "text.mp3",), (track, "--max-duration", "30")):
        assert command("timeline", *SMALL, *arguments, code=1).exception
    unwritable = tmp_path / "is a folder.png"
    unwritable.mkdir()
    command("timeline", *SMALL, track, "--plot", unwritable, code=2)


@pytest.mark.skipif(os.geteuid() != 0 and not os.path.exists("/dev/full"), reason="no device that is full")
def test_a_picture_that_cannot_be_written(command: Command, track: Path) -> None:
    result = command("timeline", *SMALL, track, "--plot", "/dev/full", code=1)
    assert "cannot be written" in result.stderr


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.4, 59.6, 61, 3725)] == ["0:00", "0:59", "1:00", "1:01", "62:05"]
