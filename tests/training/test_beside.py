"""Sound beside its source: whole or not at all, once, and one failure does not end the others."""

from pathlib import Path

import pytest

from tunelab.training.beside import beside, make_beside


def test_each_source_gets_its_sound_once_and_failures_leave_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = [tmp_path / name for name in ("a.mid", "b.mid", "c.mid", "d.mid")]
    beside(sources[3], ".flac").write_text("there before")
    (tmp_path / ".b.mid.flac").write_text("left by a run that was killed")
    made: list[str] = []

    def make(source: Path, target: Path) -> str:
        made.append(source.name)
        if source.name == "b.mid":
            assert not target.exists()
            target.write_text("half")
            return "it is silent"
        if source.name == "c.mid":
            raise OSError("the disk is full")
        target.write_text("sound")
        return ""

    assert make_beside(sources, ".flac", make, "played") == 2
    assert sorted(made) == ["a.mid", "b.mid", "c.mid"]  # some at once, so in any order
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mid.flac", "d.mid.flac"]
    assert beside(sources[3], ".flac").read_text() == "there before"
    assert "b.mid: not played: it is silent" in caplog.text
    assert "c.mid: not played: the disk is full" in caplog.text
