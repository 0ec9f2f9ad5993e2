import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from tunelab.audio.mel import MelConfig
from tunelab.encoder import find_bundle
from tunelab.encoder.bundle import Bundle
from tunelab.encoder.maest import load_maest
from tunelab.errors import SettingsError
from tunelab.heads.mlp import load_heads
from tunelab.training import clips, embed, finish
from tunelab.training.cli import commands
from tunelab.training.clips import FRONT_END
from tunelab.training.embed import load_student, run_of_bundle
from tunelab.training.finish import refit
from tunelab.training.student import PATCHES
from tunelab.types import HEADS, FloatArray


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the bundle that is shipped, without its encoder, which is not looked at."""
    folder = tmp_path / "copy-v1"
    folder.mkdir()
    for name in ("heads.safetensors", "preprocessor_config.json", "card.json", "README.md", "ATTRIBUTION.md"):
        shutil.copy(find_bundle().path / name, folder / name)
    return folder


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty corpus with a run, whose heads come out as halves of those that are there."""
    row = {"path": "p/a.ogg", "package": "p", "licence": "", "seconds": 1.0, "kind": "speech", "split": "train"}
    pd.DataFrame([row]).to_parquet(tmp_path / "manifest.parquet")
    (tmp_path / "refit").mkdir()
    (tmp_path / "refit" / "student.safetensors").write_bytes(b"encoder")
    front_end = find_bundle().mel
    (tmp_path / "refit" / "run.json").write_text(json.dumps({"mean": front_end.mean, "std": front_end.std}))
    stamp = {"encoder": hashlib.sha256(b"encoder").hexdigest()}
    (tmp_path / "clips").mkdir()
    for name in ("train-0041-0000", "train-0042-0000", "train-0041-0001", "heldout-0043-0000"):
        save_file({"known": np.zeros((4, 4), np.float32)}, tmp_path / "clips" / f"{name}.safetensors", clips.stamp())
    save_file({"train": np.zeros((1, 768), np.float32)}, tmp_path / "refit" / "embeddings.safetensors", stamp)
    for name in ("run_of_bundle", "embed_clips"):
        monkeypatch.setattr(embed, name, lambda *arguments: None)
    shipped = load_file(find_bundle().path / "heads.safetensors")
    rows = json.loads((find_bundle().path / "card.json").read_text())["heads"]

    def fitted(
        arrays: dict[str, FloatArray], kept: dict[str, FloatArray]
    ) -> tuple[dict[str, FloatArray], dict[str, Any], dict[str, Any]]:
        stay = {name.split(".")[0] for name in kept}
        anew = {
            head: {
                **rows[head],
                "pearson_r": 0.75,
                "n": 77,
                "shipped": head != "happiness" or head in stay,
                "labels": "today's",
                **({} if head in stay else {"epochs": 7, "n_train": 50, "n_development": 5}),
            }
            for head in HEADS
        }
        halved = {name: value / 2 for name, value in shipped.items() if name not in kept}
        return {**halved, **kept}, anew, {head: {"anew": head not in stay} for head in HEADS}

    monkeypatch.setattr(finish, "fit_heads", fitted)
    return tmp_path


def test_only_the_named_heads_change(corpus: Path, bundle: Path) -> None:
    before = load_file(bundle / "heads.safetensors")
    old = json.loads((bundle / "card.json").read_text())
    options = ["refit", str(corpus), "--bundle", str(bundle), "--heads", "instrumentalness,speechiness"]
    options += ["--version", "9.1"]
    result = CliRunner().invoke(commands, options)
    assert result.exit_code == 0, result.output
    after = load_file(bundle / "heads.safetensors")
    assert set(after) == set(before)
    for name, values in before.items():
        changed = name.startswith(("instrumentalness.", "speechiness."))
        np.testing.assert_array_equal(after[name], values / 2 if changed else values)
    card = json.loads((bundle / "card.json").read_text())
    assert card["version"] == "9.1"
    assert card["heads"]["speechiness"]["n"] == 77
    assert card["heads"]["speechiness"]["labels"] == "today's"
    assert card["heads"]["speechiness"]["epochs"] == 7
    # The others are measured on the same clips, and learnt what they learnt.
    assert card["heads"]["energy"] == {**old["heads"]["energy"], "pearson_r": 0.75, "n": 77}
    assert card["every_second_time_patch"]["instrumentalness"] == {"anew": True}
    assert card["every_second_time_patch"]["energy"] == {"anew": False}
    assert card["training"]["fitted_anew"]["heads"] == ["instrumentalness", "speechiness"]
    assert card["training"]["fitted_anew"]["clips"] == 1
    # After what made the bundle, and before what is measured on it.
    at = next(i for i, command in enumerate(old["reproduce"]) if command.startswith("tunelab evaluate"))
    assert card["reproduce"] == [
        *old["reproduce"][:at],
        "# some heads anew, in an empty CORPUS/clips: 1 training clips of a corpus with 1 of speech",
        "tunelab clips CORPUS --seed 41 --count 8 --heldout-count 0",
        "tunelab clips CORPUS --seed 42 --count 4 --heldout-count 0",
        "tunelab clips CORPUS --seed 43 --count 0 --heldout-count 4",
        "tunelab tag CORPUS",
        "tunelab refit CORPUS --bundle models/copy-v1 --heads instrumentalness,speechiness --version 9.1",
        *old["reproduce"][at:],
    ]
    # The encoder still learnt from what it learnt from, and the heads from one package more.
    named, before = ((folder / "ATTRIBUTION.md").read_text().splitlines() for folder in (bundle, find_bundle().path))
    assert set(named) - set(before) == {"| p | train | 1 | 0.00 | see the package |"}
    assert not set(before) - set(named)
    assert len(named) == len(before) + 1
    text = (bundle / "README.md").read_text()
    assert "| speechiness | yes | 55 | construction and teachers | 77 |" in text
    assert "8-bit" not in text.partition("## Limits")[0]
    assert card["embedding"] == old["embedding"]


def test_the_front_end_becomes_that_of_the_clips(corpus: Path, bundle: Path) -> None:
    """In units of the encoder; what the card says of embeddings was measured on other spectrograms then."""
    older = {**json.loads((bundle / "preprocessor_config.json").read_text()), "edge_db": []}
    (bundle / "preprocessor_config.json").write_text(json.dumps(older))
    refit(corpus, corpus / "refit", bundle, ["energy"], "2")
    shipped = find_bundle().mel
    front_end = MelConfig.load(bundle / "preprocessor_config.json")
    assert front_end == MelConfig(**FRONT_END, mean=shipped.mean, std=shipped.std)
    assert "embedding" not in json.loads((bundle / "card.json").read_text())


def test_below_the_gate_nothing_changes(corpus: Path, bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(SettingsError, match=r"below the gate of 0\.7: happiness"):
        refit(corpus, corpus / "refit", bundle, ["energy", "happiness"], "2")
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_embeddings_of_another_encoder_are_refused(corpus: Path, bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    (corpus / "refit" / "student.safetensors").write_bytes(b"another encoder")
    with pytest.raises(SettingsError, match="another encoder"):
        refit(corpus, corpus / "refit", bundle, ["energy"], "2")
    (corpus / "refit" / "embeddings.safetensors").unlink()
    with pytest.raises(SettingsError, match="no embeddings"):
        refit(corpus, corpus / "refit", bundle, ["energy"], "2")
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_an_unknown_head_is_told(corpus: Path, bundle: Path) -> None:
    result = CliRunner().invoke(
        commands, ["refit", str(corpus), "--bundle", str(bundle), "--heads", "energy,mood", "--version", "2"]
    )
    assert result.exit_code == 2
    assert "mood" in result.output


def test_a_bundles_encoder_as_a_run_embeds_as_the_bundle_does(tmp_path: Path) -> None:
    bundle = find_bundle()
    run_of_bundle(bundle.path, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["mean"], facts["std"]) == (bundle.mel.mean, bundle.mel.std)
    student = load_student(tmp_path / "run")
    mels = torch.randn(1, 1876, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        own = student.embed(mels, torch.arange(PATCHES)[None])[0].numpy()
        served = load_maest(Bundle.open(bundle.path))(mels)[0].numpy()
    # Half-precision position tables are taken apart into time and frequency: about three digits.
    np.testing.assert_allclose(own, served, atol=0.02 * served.std())
    assert set(load_heads(bundle).names) == set(HEADS)
    # The same bundle gives the same file again; a run that was trained is not overwritten.
    weights = (tmp_path / "run" / "student.safetensors").read_bytes()
    run_of_bundle(bundle.path, tmp_path / "run")
    assert (tmp_path / "run" / "student.safetensors").read_bytes() == weights
    (tmp_path / "run" / "run.json").write_text(json.dumps({**facts, "steps": 7}))
    with pytest.raises(SettingsError, match="pre-training run"):
        run_of_bundle(bundle.path, tmp_path / "run")
