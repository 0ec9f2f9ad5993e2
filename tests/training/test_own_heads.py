"""From a CSV of labels to a bundle that serves; embeddings are computed once."""

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from tests.support import make_bundle
from tunelab.analyzer import Analyzer
from tunelab.encoder.bundle import Bundle
from tunelab.training.cli import commands
from tunelab.training.datasets import Example
from tunelab.training.embedding_store import EmbeddingStore
from tunelab.training.own_heads import LEAST_EXAMPLES, embed_examples, fit, split_of
from tunelab.types import FloatArray


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def vector(number: int) -> FloatArray:
    return np.full(768, number, np.float32)


class TestStore:
    def test_what_was_added_is_there_the_next_time(self, tmp_path: Path) -> None:
        store = EmbeddingStore(tmp_path, "small", "1")
        for number in range(5):
            store.add(digest(number), vector(number))
        store.add(digest(1), vector(99))
        again = EmbeddingStore(tmp_path, "small", "1")
        assert len(again) == 5
        assert digest(3) in again
        assert again.read([digest(3), digest(1)])[:, 0].tolist() == [3, 1]
        assert again.read([]).shape == (0, 768)
        assert len(EmbeddingStore(tmp_path, "small", "2")) == 0
        with pytest.raises(KeyError):
            again.read([digest(9)])
        with pytest.raises(ValueError, match="768"):
            again.add(digest(9), np.zeros(3, np.float32))

    def test_what_a_full_disk_did_not_take_is_written_over(self, tmp_path: Path) -> None:
        store = EmbeddingStore(tmp_path, "small", "1")
        store.add(digest(0), vector(0))
        with (store.folder / "embeddings.f32").open("ab") as file:
            file.write(b"half")
        store.add(digest(1), vector(1))
        assert store.read([digest(0), digest(1)])[:, 0].tolist() == [0, 1]
        assert EmbeddingStore(tmp_path, "small", "1").read([digest(1)])[0, 0] == 1

    @pytest.mark.parametrize(("file", "lost"), [("keys.txt", 10), ("embeddings.f32", 100)])
    def test_half_a_record_is_dropped(self, tmp_path: Path, file: str, lost: int) -> None:
        store = EmbeddingStore(tmp_path, "small", "1")
        for number in range(3):
            store.add(digest(number), vector(number))
        path = store.folder / file
        path.write_bytes(path.read_bytes()[:-lost])
        again = EmbeddingStore(tmp_path, "small", "1")
        assert len(again) == 2
        again.add(digest(7), vector(7))
        assert EmbeddingStore(tmp_path, "small", "1").read([digest(7), digest(0)])[:, 0].tolist() == [7, 0]


def examples(count: int, heads: dict[str, FloatArray]) -> list[Example]:
    return [
        Example(
            Path(f"{number}.wav"), {head: float(values[number]) for head, values in heads.items()}, str(number // 2)
        )
        for number in range(count)
    ]


def test_groups_are_never_torn_apart_and_official_splits_win() -> None:
    many = examples(400, {"energy": np.zeros(400, np.float32)})
    splits = split_of(many)
    assert (splits[0::2] == splits[1::2]).all()
    shares = {name: float((splits == name).mean()) for name in ("train", "validation", "test")}
    assert shares["test"] == pytest.approx(0.2, abs=0.06)
    assert shares["validation"] == pytest.approx(0.15, abs=0.06)
    assert split_of([Example(Path("x"), {}, "artist", "validation")]).tolist() == ["validation"]


def test_heads_are_learnt_gated_and_told() -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(500, 3))
    embeddings = (latent @ rng.normal(size=(3, 768)) + 0.3 * rng.normal(size=(500, 768))).astype(np.float32)
    known = (1 / (1 + np.exp(-latent.sum(1)))).astype(np.float32)
    labels = {
        "energy": known,
        "happiness": rng.random(500).astype(np.float32),
        "speechiness": (known > 0.5).astype(np.float32),
    }
    tensors, rows = fit(examples(500, labels), embeddings)
    assert rows["energy"]["shipped"]
    assert rows["energy"]["pearson_r"] > 0.7
    assert not rows["happiness"]["shipped"]
    assert "gate" in rows["happiness"]["why"]
    assert rows["speechiness"]["auc"] > 0.8
    assert {name.partition(".")[0] for name in tensors} == {head for head, row in rows.items() if row["shipped"]}
    _, few = fit(examples(LEAST_EXAMPLES - 1, {"energy": known}), embeddings)
    assert not few["energy"]["shipped"]
    assert few["energy"]["why"] == f"fewer than {LEAST_EXAMPLES} labelled files"
    one_split = [replace(example, split="train") for example in examples(500, {"energy": known})]
    assert fit(one_split, embeddings)[1]["energy"]["why"] == "fewer than two labelled files in validation and test"


def test_embeddings_are_computed_once_and_a_bad_file_is_one_failure(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.wav").write_bytes(bytes([number % 2]) * 10)
    store, calls = EmbeddingStore(tmp_path / "store", "small", "1"), []

    def embed(data: bytes) -> FloatArray:
        calls.append(data)
        return vector(data[0])

    many = [Example(tmp_path / name, {"energy": 1.0}, name) for name in ("0.wav", "gone.wav", "1.wav", "2.wav")]
    kept, embeddings, failures = embed_examples(many, embed, store)
    assert [example.path.name for example in kept] == ["0.wav", "1.wav", "2.wav"]
    assert embeddings[:, 0].tolist() == [0, 1, 0]
    assert list(failures) == [str(tmp_path / "gone.wav")]
    assert len(calls) == 2
    embed_examples(many, embed, store)
    assert len(calls) == 2
    # Two of them are the same recording: no split may tear them apart.
    assert kept[0].group == kept[2].group != kept[1].group


def test_from_a_csv_to_a_bundle_that_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = make_bundle(tmp_path / "small", layers=1, frames=476)
    rng = np.random.default_rng(0)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "energy"])
        for number in range(90):
            energy = number / 90
            noise = rng.normal(size=16_000) * np.linspace(0.05, 1, 16_000) ** (4 * energy)
            name = f"{number}.wav"
            sf.write(tmp_path / name, 0.2 * noise, 16_000)
            table.writerow([name, round(100 * energy)])
        table.writerow(["0.wav", 0])
    (tmp_path / "7.wav").write_bytes(b"no audio")
    out = tmp_path / "own"
    arguments = ["train", "--encoder", str(bundle), "--labels", str(tmp_path / "labels.csv"), "--out", str(out)]
    arguments += ["--store", str(tmp_path / "store")]
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 0, result.output
    assert "energy" in result.output
    assert "7.wav" in result.output
    opened = Bundle.open(out)
    assert opened.card["heads"]["energy"]["shipped"]
    scores = Analyzer(opened, engine="torch", threads=1).analyze(tmp_path / "80.wav").scores
    assert list(scores) == ["energy"]
    assert CliRunner().invoke(commands, arguments).exit_code == 2
    assert "exists" in CliRunner().invoke(commands, arguments).output
