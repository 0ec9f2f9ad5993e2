"""Shards of clips: the same wherever and whenever they are rendered, each once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from tunelab.errors import SettingsError
from tunelab.training import clips, rap
from tunelab.training.clips import AUDIO, render, stamp
from tunelab.training.corpus_cli import commands
from tunelab.training.teachers import Labels
from tunelab.training.voice import SAMPLE_RATE
from tunelab.types import FloatArray

MUSIC = {"music": 1.0}


class Deaf:
    def __call__(self, samples: FloatArray) -> Labels:
        return Labels(np.zeros((46, 4), np.float32), np.zeros(4, np.float32), np.zeros(7, np.float32))


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one tone whose pitch rises, so that a clip tells where in it it begins."""
    monkeypatch.setattr(clips, "_teacher", Deaf)
    monkeypatch.setattr(clips, "SHARD", 3)
    phase = 2 * np.pi * np.cumsum(np.linspace(100, 2000, 90 * SAMPLE_RATE)) / SAMPLE_RATE
    (tmp_path / "un").mkdir()
    sf.write(tmp_path / "un" / "rising.wav", 0.2 * np.sin(phase), SAMPLE_RATE)
    row = {"path": "rising.wav", "package": "rising", "kind": "music", "seconds": 90.0}
    table = pd.DataFrame([{**row, "split": "train"}, {**row, "split": "heldout"}])
    # A manifest without speech has a column of text all the same.
    table.to_parquet(tmp_path / "manifest.parquet")
    return tmp_path


def _mels(corpus: Path) -> dict[str, bytes]:
    return {path.name: load_file(path)["mel"].tobytes() for path in (corpus / "clips").glob("*.safetensors")}


def test_counts_are_rounded_up_and_a_second_call_renders_what_is_missing(corpus: Path) -> None:
    assert render(corpus, "train", 7, 4, shares=MUSIC) == 6
    before = _mels(corpus)
    assert sorted(before) == ["train-0007-0000.safetensors", "train-0007-0001.safetensors"]
    assert len({mel[at * len(mel) // 3 :][:1000] for mel in before.values() for at in range(3)}) == 6
    assert render(corpus, "train", 7, 4, shares=MUSIC) == 0
    # Killed between the audio and the shard: that one is rendered again, as it was.
    (corpus / "clips" / "train-0007-0000.safetensors").unlink()
    assert render(corpus, "train", 7, 9, shares=MUSIC) == 6
    after = _mels(corpus)
    assert len(after) == 3
    assert {name: after[name] for name in before} == before
    assert sorted(path.name for path in (corpus / "clips" / AUDIO).iterdir()) == sorted(after)


def test_seeds_and_splits_have_clips_of_their_own(corpus: Path) -> None:
    for split, seed in (("train", 1), ("train", 2), ("heldout", 1), ("heldout", 2)):
        render(corpus, split, seed, 3, shares=MUSIC)
    assert len(set(_mels(corpus).values())) == 4


def test_clips_of_other_kinds_or_another_front_end_are_not_mixed_in(corpus: Path) -> None:
    render(corpus, "train", 3, 1, shares=MUSIC)
    with pytest.raises(SettingsError, match="train clips of seed 3 with other kinds"):
        render(corpus, "train", 3, 9)
    assert render(corpus, "heldout", 3, 1, shares={"music": 2.0, "layered": 1.0}) == 3
    old = {**stamp(MUSIC), "front_end": "{}"}
    save_file({"known": np.zeros((1, 4), np.float32)}, corpus / "clips" / "train-0005-0000.safetensors", old)
    with pytest.raises(SettingsError, match="another mel front end"):
        render(corpus, "train", 5, 9, shares=MUSIC)


def test_the_command_renders_both_splits_of_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def rendered(corpus: Path, split: str, seed: int, count: int, **options: object) -> int:
        asked.append((corpus, split, seed, count, options))
        return 64 * len(asked)

    monkeypatch.setattr(clips, "render", rendered)
    monkeypatch.setattr(rap, "compile_ahead", lambda: None)
    options = ["--count", "100", "--seed", "5", "--kinds", "music=1", "--processes", "3"]
    result = CliRunner().invoke(commands, ["clips", str(tmp_path), *options])
    assert result.output == "heldout: 64 clips rendered\ntrain: 128 clips rendered\n"
    said = {"shares": {"music": 1.0}, "processes": 3}
    assert asked == [(tmp_path, "heldout", 5, 704, said), (tmp_path, "train", 5, 100, said)]
    result = CliRunner().invoke(commands, ["clips", str(tmp_path), "--count", "1", "--heldout-count", "0"])
    assert result.exit_code == 0
    assert [of[:4] for of in asked[2:]] == [(tmp_path, "heldout", 1, 0), (tmp_path, "train", 1, 1)]
