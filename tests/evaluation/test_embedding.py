import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from safetensors.numpy import save_file
from typer.testing import CliRunner

from tests.support import MEL, make_bundle
from tunelab import encoder
from tunelab.audio.mel import LogMel
from tunelab.cli import app
from tunelab.encoder import Bundle, load_engine
from tunelab.errors import SettingsError
from tunelab.evaluation import card
from tunelab.evaluation.embedding import (
    clip_features,
    compare,
    mel_statistics,
    neighbour_agreement,
    participation_ratio,
    probe_accuracy,
    song_features,
)
from tunelab.training import finish, teachers
from tunelab.training.clips import MEL_FLOOR_DB, MEL_STEP_DB, stamp
from tunelab.types import FloatArray


def clouds(spread: float) -> tuple[FloatArray, np.ndarray]:
    """Three classes around three corners of a cube."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 40)
    centres = {"a": 0, "b": 1, "c": 2}
    features = spread * rng.normal(size=(120, 6)).astype(np.float32)
    for row, label in enumerate(labels):
        features[row, centres[label]] += 1
    return features, labels


def test_effective_dimensions() -> None:
    rng = np.random.default_rng(0)
    assert participation_ratio(rng.normal(size=(5000, 12)).astype(np.float32)) == pytest.approx(12, rel=0.02)
    line = np.outer(rng.normal(size=100), np.ones(12)).astype(np.float32)
    assert participation_ratio(line) == pytest.approx(1)


def test_a_probe_reads_what_is_there_and_nothing_else() -> None:
    features, labels = clouds(0.1)
    assert probe_accuracy(features, labels) > 0.98
    shuffled = np.random.default_rng(1).permutation(labels)
    assert probe_accuracy(features, shuffled) < 0.5


def test_neighbours_are_of_the_same_class_only_where_classes_are_apart() -> None:
    assert neighbour_agreement(*clouds(0.05)) == 1.0
    assert neighbour_agreement(*clouds(50.0)) < 0.55


def test_rare_classes_are_left_out() -> None:
    features, labels = clouds(0.1)
    labels = labels.copy()
    labels[:3] = "rare"
    rows = compare({"x": features}, labels)
    assert (rows["n"], rows["classes"], rows["chance"]) == (117, 3, round(40 / 117, 4))
    assert rows["x"]["probe"] > 0.98
    assert rows["x"]["neighbour"] == pytest.approx(1.0, abs=0.02)


def test_statistics_of_a_mel() -> None:
    mel = np.stack([np.arange(4.0), np.arange(4.0) + 2]).astype(np.float32)
    np.testing.assert_allclose(mel_statistics(mel), [1, 2, 3, 4, 1, 1, 1, 1])


FRAMES = 316


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(make_bundle(tmp_path_factory.mktemp("bundle") / "small-v1", layers=1, frames=FRAMES))


@pytest.fixture(autouse=True)
def torch_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No conversion for OpenVINO, which takes seconds."""
    monkeypatch.setattr(encoder, "load_engine", lambda bundle: load_engine(bundle, "torch", threads=1))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two shards of 40 clips of the bundle's window, every second of them with voice."""
    rng = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    for shard in range(2):
        known = np.zeros((40, 4), np.float32)
        known[1::2, 0] = 2
        known[:, 1] = 5 * shard + np.arange(40) // 20
        arrays = {
            "known": known,
            "mel": rng.integers(0, 256, (40, FRAMES, 128), dtype=np.uint8),
            "dense": rng.random((40, 46, 8)).astype(np.float16),
        }
        save_file(arrays, tmp_path / "clips" / f"train-0001-{shard:04d}.safetensors", stamp())
    return tmp_path / "clips"


class FakeVibenet:
    def __call__(self, samples: FloatArray) -> SimpleNamespace:
        return SimpleNamespace(dense=np.stack([np.full(8, samples.max()), np.full(8, samples.min())]))


def test_clips_are_spread_over_the_shards(bundle: Bundle, clips: Path) -> None:
    features, packages = clip_features(bundle, clips, 10)
    assert packages.tolist() == [0, 0, 0, 1, 1, 5, 5, 6, 6, 6]
    assert {name: values.shape for name, values in features.items()} == {
        "tunelab": (10, 768),
        "mel statistics": (10, 256),
        "vibenet": (10, 8),
    }
    # Only music: the first clip of all, standardised as the bundle says.
    with_all, _ = clip_features(bundle, clips, 40)
    np.testing.assert_array_equal(with_all["vibenet"][0], features["vibenet"][0])
    mel = 127.5 * MEL_STEP_DB + MEL_FLOOR_DB
    wanted = (mel - float(MEL["mean"])) / float(MEL["std"])  # type: ignore[arg-type]
    assert features["mel statistics"][:, :128].mean() == pytest.approx(wanted, abs=0.05)


def test_no_clips(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="render them first"):
        clip_features(bundle, tmp_path, 10)


def test_songs_keep_their_order(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "Vibenet", FakeVibenet)
    for number, level in enumerate((0.1, 0.5, 0.2)):
        sf.write(tmp_path / f"{number}.wav", np.tile([0.0, level], 40_000), 16_000, subtype="FLOAT")
    features = song_features(bundle, [tmp_path / f"{number}.wav" for number in range(3)])
    assert features["vibenet"][:, 0].tolist() == pytest.approx([0.05, 0.25, 0.1])
    samples = np.tile([0.0, 0.5], 40_000).astype(np.float32)
    window = LogMel(bundle.mel)(np.resize(samples, bundle.mel.num_samples))
    np.testing.assert_allclose(features["mel statistics"][1], mel_statistics(window), atol=1e-4)


def test_command_writes_its_rows_into_the_card(
    bundle: Bundle, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "Vibenet", FakeVibenet)
    rng = np.random.default_rng(1)
    (tmp_path / "songs").mkdir()
    table = pd.DataFrame({"path": [f"{n}.wav" for n in range(20)], "source": "emotify"})
    table["genre"] = ["rock", "pop"] * 10
    table.to_csv(tmp_path / "songs" / "labels.csv", index=False)
    for path in table.path:
        sf.write(tmp_path / "songs" / path, 0.1 * rng.normal(size=80_000), 16_000)
    spoken = [f"qabcs-data/{language}/{n}.wav" for language in ("de", "pl") for n in range(10)]
    for path in spoken:
        (tmp_path / "un" / path).parent.mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path / "un" / path, 0.1 * rng.normal(size=82_000), 16_000)
    pd.DataFrame({"path": spoken, "kind": "speech"}).to_parquet(tmp_path / "manifest.parquet")
    written: dict[str, Any] = {}
    monkeypatch.setattr(finish, "update_card", lambda folder, parts: written.update(parts))
    options = ("--bundle", bundle.path, "--clips", clips, "--validation", tmp_path / "songs", "--count", 60)
    result = CliRunner().invoke(app, ["embedding", *map(str, options), "--corpus", str(tmp_path)])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    rows = written["embedding"]
    assert json.loads(json.dumps(rows)) == rows
    assert (rows["genre"]["n"], rows["genre"]["classes"]) == (20, 2)
    assert (rows["package"]["n"], rows["package"]["classes"]) == (40, 4)
    assert set(rows["participation_ratio"]) == {"tunelab", "mel statistics", "vibenet"}
    assert (rows["language"]["n"], rows["language"]["classes"]) == (20, 2)
    assert "key" not in rows
    lines = card._embedding_rows(rows)
    assert sum("language spoken (n = 20, 2 classes)" in line for line in lines) == 2
    assert not any("rendered" in line for line in lines)
    written.clear()
    result = CliRunner().invoke(app, ["embedding", *map(str, options), "--no-write"])
    assert written == {}
    assert "package: " in result.stdout
    assert "language" not in result.stdout


def test_one_class_is_nothing_to_compare() -> None:
    features, labels = clouds(0.1)
    with pytest.raises(SettingsError, match="fewer than two"):
        compare({"x": features[:40]}, labels[:40])
