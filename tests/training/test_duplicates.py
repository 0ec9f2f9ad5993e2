"""Copies are found in other codings, rates, levels and cuts; other music is not; and no copy crosses the split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from tests.training.pieces import RATE, piece
from tunelab.evaluation.robustness import mp3
from tunelab.training import duplicates
from tunelab.training.duplicates import choose, drop_duplicates
from tunelab.training.fingerprints import Twins, find_twins, fingerprint, fingerprint_file
from tunelab.types import FloatArray


@dataclass(frozen=True)
class Row:
    path: str
    seconds: float = 30.0
    kind: str = "music"
    split: str = "train"
    source: str = "file"
    sha256: str = ""


@pytest.fixture(scope="module")
def original() -> FloatArray:
    return piece(0, 40)


@pytest.fixture(scope="module")
def copies(original: FloatArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original, what became of it, and pieces of the same instruments, key and tempo."""
    folder = tmp_path_factory.mktemp("copies")
    sf.write(folder / "original.flac", original, RATE)
    cut = original[int(7.123 * RATE) :]
    sf.write(folder / "vorbis 44.1 kHz stereo.ogg", np.stack([soxr.resample(cut, RATE, 44_100)] * 2, 1), 44_100)
    (folder / "mp3 48 kb.mp3").write_bytes(mp3(original, 48))
    sf.write(folder / "22.05 kHz.wav", soxr.resample(0.2 * original, RATE, 22_050), 22_050)
    sf.write(folder / "middle.flac", original[12 * RATE : 30 * RATE], RATE)
    padded = np.concatenate([np.zeros(3 * RATE + 321, np.float32), original])
    sf.write(folder / "silence first.flac", padded, RATE)
    for seed in range(1, 7):
        sf.write(folder / f"other {seed}.flac", piece(seed, 40), RATE)
    return folder


def test_copies_are_found_and_others_are_not(copies: Path) -> None:
    paths = sorted(copies.iterdir())
    twins = find_twins([fingerprint_file(path) for path in paths])
    names = [path.stem for path in paths]
    found = {frozenset((names[twin.first], names[twin.second])) for twin in twins}
    same = {name for name in names if not name.startswith("other")}
    assert {frozenset(("original", name)) for name in same if name != "original"} <= found
    assert all(pair <= same for pair in found)


def test_where_a_copy_begins_is_told(copies: Path) -> None:
    [twins] = find_twins([fingerprint_file(copies / "original.flac"), fingerprint_file(copies / "middle.flac")])
    assert twins.offset_s == pytest.approx(12, abs=0.1)
    assert twins.share > 0.9


def test_a_shared_beginning_is_no_copy(original: FloatArray) -> None:
    other = piece(9, 40)
    mixed = np.concatenate([original[: 10 * RATE], other[10 * RATE :]])
    prints = [fingerprint(soxr.resample(samples, RATE, 8000)) for samples in (original, mixed, other)]
    assert [(twins.first, twins.second) for twins in find_twins(prints)] == [(1, 2)]


def test_speed_makes_another_recording(original: FloatArray) -> None:
    prints = [fingerprint(soxr.resample(original, rate, 8000)) for rate in (RATE, 1.2 * RATE)]
    assert find_twins(prints) == []


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(30 * 8000, np.float32),
        np.sin(np.arange(30 * 8000) / 3).astype(np.float32),
        np.zeros(5, np.float32),
        np.zeros(0, np.float32),
    ],
    ids=["silence", "tone", "short", "nothing"],
)
def test_what_does_not_change_has_no_fingerprint(samples: FloatArray) -> None:
    prints = fingerprint(samples)
    assert np.count_nonzero(prints) < 10
    assert find_twins([prints, prints]) == []


def test_nothing_to_compare() -> None:
    assert find_twins([]) == []
    assert drop_duplicates([], Path(), Path("unused"))[0] == []


def test_the_longest_stays_and_names_decide_last() -> None:
    rows = [Row("b"), Row("a"), Row("c", seconds=29), Row("0", source="tracker"), Row("lonely", seconds=5)]
    twins = [Twins(0, 1, 1.0, 0.0), Twins(1, 2, 0.9, 0.5), Twins(0, 3, 0.8, 0.0)]
    kept, dropped = choose(rows, twins)
    assert [row.path for row in kept] == ["a", "lonely"]
    assert [(row.path, row.same_as) for row in dropped] == [("b", "a"), ("c", "a"), ("0", "a")]
    assert [row.offset_s for row in dropped[:2]] == [0.0, -0.5]
    assert np.isnan(dropped[2].share)  # only a third one connects them
    assert choose(rows[::-1], [Twins(4 - twin.first, 4 - twin.second, 1.0, 0.0) for twin in twins])[0] == kept[::-1]


def test_the_held_out_copy_stays() -> None:
    rows = [Row("long", seconds=99), Row("held", split="heldout"), Row("third", seconds=50)]
    kept, dropped = choose(rows, [Twins(0, 1, 1.0, 0.0), Twins(1, 2, 1.0, 0.0)])
    assert [row.path for row in kept] == ["held"]
    assert {row.same_as for row in dropped} == {"held"}


def test_files_are_compared_by_bytes_and_by_sound(
    copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        Row("original.flac", split="heldout", sha256="1", seconds=40),
        Row("mp3 48 kb.mp3", sha256="2", seconds=40),
        Row("other 1.flac", sha256="3", seconds=40),
        Row("other 2.flac", kind="speech", sha256="3", seconds=40),
        Row("gone.flac", sha256="4", seconds=40),
    ]
    kept, dropped = drop_duplicates(rows, copies, tmp_path / "cache")
    assert [row.path for row in kept] == ["original.flac", "other 1.flac", "gone.flac"]
    assert [(row.path, row.same_as) for row in dropped] == [
        ("mp3 48 kb.mp3", "original.flac"),
        ("other 2.flac", "other 1.flac"),
    ]
    # The second time nothing is read but the cache.
    monkeypatch.setattr(duplicates, "fingerprint_file", None)
    assert drop_duplicates(rows[:4], copies, tmp_path / "cache")[0] == kept[:2]
    assert not list((tmp_path / "cache").glob("*.part"))


def test_rows_are_handed_on_as_they_are() -> None:
    row = Row("a", sha256="1")
    assert choose([row, replace(row, path="b")], [])[0][0] is row
