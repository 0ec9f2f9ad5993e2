"""The whole chain on three tiny packages: corpus -> clips -> tags -> pre-training -> heads -> card -> service."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from fastapi.testclient import TestClient

from tunelab.analyzer import Analyzer, LocalPipeline
from tunelab.encoder.bundle import Bundle
from tunelab.service.accounts import create_account
from tunelab.service.app import create_app
from tunelab.service.database import sync_session
from tunelab.settings import load_settings
from tunelab.training import clips, heads, musicnn, renderer
from tunelab.training.config import PretrainConfig
from tunelab.training.corpus import build_manifest, split_of
from tunelab.training.embed import embed_clips
from tunelab.training.finish import write_bundle
from tunelab.training.pretrain import pretrain
from tunelab.training.teachers import Labels
from tunelab.types import HEADS, FloatArray

RATE = 16_000


def statistics(samples: FloatArray, count: int) -> FloatArray:
    """Numbers that depend on the sound, in 0..1."""
    spectrum = np.abs(np.fft.rfft(samples[: 30 * RATE]))
    bands = np.array([band.mean() for band in np.array_split(spectrum, count)])
    return (bands / (bands + np.median(bands) + 1e-6)).astype(np.float32)


class FakeVibenet:
    def __call__(self, samples: FloatArray) -> Labels:
        dense = np.stack([statistics(part, 64) for part in np.array_split(samples[: 30 * RATE], 46)])
        return Labels(np.tile(dense, 20), np.tile(statistics(samples, 64), 4), statistics(samples, 7))


class FakeMusicnn:
    def __call__(self, samples: FloatArray) -> FloatArray:
        return np.stack([8 * statistics(part, 100) - 6 for part in np.array_split(samples, 10)])


def music(rng: np.random.Generator, seconds: float) -> FloatArray:
    """A few notes over noise of random colour."""
    times = np.arange(int(seconds * RATE)) / RATE
    notes = sum(np.sin(2 * np.pi * hertz * times) for hertz in rng.uniform(80, 2000, 3))
    noise = np.cumsum(rng.normal(size=len(times)))
    mixed = (
        notes
        + rng.uniform(0, 3) * (noise - noise.mean()) / noise.std()
        + rng.uniform(0, 1) * rng.normal(size=len(times))
    )
    return (0.2 * mixed / np.abs(mixed).max()).astype(np.float32)


def corpus(folder: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"game-{number:02d}" for number in range(40)]
    # The first package of all chooses epochs, the second trains, the third is held out.
    train = [name for name in names if split_of(name) == "train"][:2]
    held = next(name for name in reversed(names) if split_of(name) == "heldout")
    for name, seconds in ((train[0], 32), (train[1], 32), (held, 32), ("qabcs-data", 2), ("klettres-data", 2)):
        place = folder / "un" / name
        (place / "usr" / "share" / "doc" / name).mkdir(parents=True)
        (place / "usr" / "share" / "doc" / name / "copyright").write_text("License: CC0-1.0\n")
        for number in range(3):
            sf.write(place / f"{number}.wav", music(rng, seconds), RATE)
    assert build_manifest(folder / "un", folder / "manifest.parquet") == 15


@pytest.fixture
def tiny_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "_teacher", FakeVibenet)
    monkeypatch.setattr(clips, "SHARD", 8)
    # The vocoder is a tool of the full recipe.
    monkeypatch.setattr(renderer, "take_apart", lambda speech: speech)
    monkeypatch.setattr(renderer, "sing", lambda speech, rng, key: speech)
    monkeypatch.setattr(renderer, "rap", lambda speech, rng, grid: speech)
    monkeypatch.setattr(musicnn, "_teacher", FakeMusicnn)
    # Twenty steps teach nobody anything; what is tested is that everything fits together.
    monkeypatch.setattr(heads, "GATE", -1.1)


@pytest.mark.usefixtures("tiny_teachers")
def test_from_packages_to_an_answer_over_http(tmp_path: Path) -> None:
    corpus(tmp_path)
    for split, count in (("heldout", 12), ("train", 24)):
        clips.render(tmp_path, split, 1, count)
    for shard in sorted((tmp_path / "clips" / clips.AUDIO).glob("*.safetensors")):
        musicnn.tag_shard(shard)
    config = PretrainConfig(minutes=0.1, batch=4, growth=((0.0, 1), (0.7, 2)))
    run = pretrain(tmp_path / "clips", tmp_path / "run", config)
    assert run["steps"] >= 1  # within its 6 s, which a busy machine spends on one
    embed_clips(tmp_path / "clips", tmp_path / "run")
    bundle = tmp_path / "tiny-v1"
    card = write_bundle(tmp_path, tmp_path / "run", bundle, "0.3")
    assert set(card["heads"]) == {*HEADS, "liveness"}
    # What it says of itself is of this run, not of the bundle that is shipped.
    assert (card["name"], card["version"]) == ("tiny-v1", "0.3")
    assert "tunelab clips CORPUS --seed 1 --count 24 --heldout-count 16" in card["reproduce"]
    assert "tunelab pretrain CORPUS --minutes 0.1 --run run" in card["reproduce"]
    assert "tunelab bundle CORPUS --run run --out models/tiny-v1 --version 0.3" in card["reproduce"]
    assert "# 24 training clips" in card["reproduce"]
    assert card["training"]["machine"] == "2 threads on a CPU"
    assert "CC0-1.0" in (bundle / "ATTRIBUTION.md").read_text()
    assert json.loads((bundle / "card.json").read_text())["training"]["steps"] == run["steps"]

    settings = load_settings(data_dir=tmp_path / "data", database_url=None)
    opened = Bundle.open(bundle)
    app = create_app(
        lambda: LocalPipeline(Analyzer(opened, engine="torch", threads=2)), settings, cards=[dict(opened.card)]
    )
    with sync_session(settings) as session:
        key = create_account(session, "chain", tier="pro", credits=10)[1]
    file = io.BytesIO()
    sf.write(file, music(np.random.default_rng(9), 5), RATE, format="WAV")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "audio/wav"}
    with TestClient(app) as client:
        answer: dict[str, Any] = client.post("/v1/analyze", content=file.getvalue(), headers=headers).json()
        assert [head for head in HEADS if head in answer] == [
            head for head, row in card["heads"].items() if row["shipped"]
        ]
        assert answer["_meta"]["model"] == "tiny-v1"
        embedding = client.get(f"/v1/embedding/{answer['_meta']['id']}", headers=headers).json()["embedding"]
        assert len(embedding) == 768
        assert client.get("/v1/models").json()["models"][0]["heads"]["energy"]["n"] == card["heads"]["energy"]["n"]
