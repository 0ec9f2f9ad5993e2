"""The listeners' rows of what heads learn from."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from benchmarks import labels_on_songs
from benchmarks.labels_on_songs import SIZE, answers, heard, main
from tests.training.rendered import write_clips
from tunelab.training.labels import Labeller, axis
from tunelab.training.musicnn import TAGS
from tunelab.training.targets import ANSWERS, answers_of, load_clips
from tunelab.training.teachers import ATTRIBUTES, Labels
from tunelab.types import HEADS, FloatArray


class Loudness:
    """Stands in for both teachers: the louder, the more of everything."""

    asked: ClassVar[list[int]] = []

    def __call__(self, samples: FloatArray) -> Labels:
        self.asked.append(len(samples))
        level = np.float32(np.abs(samples).mean())
        return Labels(np.zeros((1, 1)), np.zeros(1), np.full(len(ATTRIBUTES), level))


class Tags:
    def __call__(self, samples: FloatArray) -> FloatArray:
        return np.stack([np.full(len(TAGS), row, np.float32) for row in range(10)])


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Classical songs are quiet, electronic ones loud; one is longer than the window, with silence around it."""
    monkeypatch.setattr(labels_on_songs, "Vibenet", Loudness)
    monkeypatch.setattr(labels_on_songs, "Musicnn", Tags)
    rows = []
    for number, level in enumerate((0.1, 0.15, 0.5, 0.6)):
        samples = np.full(16_000, level, np.float32)
        if number == 3:
            samples = np.concatenate([np.zeros(SIZE), np.full(SIZE, level), np.zeros(SIZE)]).astype(np.float32)
        sf.write(tmp_path / f"{number}.wav", samples, 16_000)
        genre = "classical" if level < 0.3 else "electronic"
        felt = dict.fromkeys(("power", "joyful_activation", "tension", "sadness"), level)
        felt |= dict.fromkeys(("calmness", "tenderness"), -level)
        rows.append({"path": f"{number}.wav", "source": "emotify", "genre": genre, "vocals": np.nan, **felt})
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def test_songs_are_heard_as_bundles_hear_them(songs: Path) -> None:
    scores, tags = heard(songs, pd.read_csv(songs / "labels.csv"))
    assert Loudness.asked[-4:] == [SIZE] * 4
    assert scores.shape == (4, len(ATTRIBUTES))
    # The middle of the long one, without the silence around it.
    assert scores[:, 0] == pytest.approx([0.1, 0.15, 0.5, 0.6], abs=1e-3)
    assert tags.shape == (4, len(TAGS))
    assert (tags == 4.5).all()


def test_each_source_says_what_it_says_of_music_alone(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    clips = load_clips(tmp_path / "clips", "train", ANSWERS)
    scores, tags, known = (values[:8] for values in (clips["scores"], clips["tags"], clips["known"]))
    tags = tags.astype(np.float32).mean(1)
    labeller = Labeller.measure(scores, tags, known)
    found = answers(labeller, scores, tags)
    assert all(set(by_head) == set(HEADS) for by_head in found.values())
    silent = np.zeros_like(known)
    np.testing.assert_array_equal(found["labels"]["energy"], labeller(scores, tags, silent)["energy"])
    np.testing.assert_array_equal(found["vibenet"]["happiness"], scores[:, ATTRIBUTES.index("valence")])
    standard = (tags - labeller.tag_mean) / labeller.tag_std
    np.testing.assert_array_equal(found["axis of tags"]["energy"], axis(standard, "energy"))


def test_it_prints_the_rows(songs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_clips(songs / "clips")
    clips = load_clips(songs / "clips", "train", ANSWERS)
    tagged = {name: values[:8] for name, values in clips.items()}
    assert len(answers_of(tagged)[0]) == 8
    monkeypatch.setattr(labels_on_songs, "load_clips", lambda *arguments: tagged)
    main(songs, songs)
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in capsys.readouterr().out.splitlines()]
    rows = {row[0]: row for row in lines if len(row) == 6}
    assert rows["head"] == ["head", "measure", "labels", "vibenet", "axis of tags", "genres"]
    # Loud is danceable and not acoustic, says the stand-in of both; its tags tell nothing.
    assert rows["danceability"][2:5] == ["1.000", "1.000", "0.500"]
    assert rows["acousticness"][3] == "0.000"
    assert rows["energy"][3] == "1.000"
