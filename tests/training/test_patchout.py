"""A bundle without every second time patch: the same weights, half the tokens, and a card that claims no more."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from tests.support import make_bundle
from tunelab.cli import app
from tunelab.encoder.bundle import Bundle, find_bundle
from tunelab.encoder.columns import column_grid
from tunelab.encoder.engine import load_engine
from tunelab.errors import SettingsError
from tunelab.training.patchout import MEASURED, leave_out_patches
from tunelab.types import HEADS


@pytest.fixture
def source(tmp_path: Path) -> Bundle:
    """A small encoder with the card of the shipped bundle, in which happiness falls below the gate."""
    folder = make_bundle(tmp_path / "small-v1", layers=1, frames=320)
    card = json.loads((find_bundle().path / "card.json").read_text())
    card[MEASURED]["happiness"]["pearson_r_every_2nd"] = 0.69
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "ATTRIBUTION.md").write_text("everybody\n")
    return Bundle.open(folder)


def test_half_of_the_patches_are_looked_at(source: Bundle, tmp_path: Path) -> None:
    thin = leave_out_patches(source, tmp_path / "out" / "thin-v1")
    assert thin.name == "thin-v1"
    assert thin.revision != source.revision
    assert (column_grid(source).count, column_grid(thin).count) == (20, 10)
    mels = np.random.default_rng(0).normal(-40, 10, (1, 320, 128)).astype(np.float32)
    before = load_engine(thin, "torch", threads=1)(mels)
    mels[:, 16:32] = 0.0  # the second column of patches
    np.testing.assert_array_equal(load_engine(thin, "torch", threads=1)(mels), before)
    assert np.abs(load_engine(source, "torch", threads=1)(mels) - before).max() > 1e-3
    assert (thin.path / "ATTRIBUTION.md").read_text() == "everybody\n"
    assert [path.name for path in thin.path.parent.iterdir()] == ["thin-v1"]


def test_the_card_has_what_was_measured_so_and_nothing_else(source: Bundle, tmp_path: Path) -> None:
    thin = leave_out_patches(source, tmp_path / "thin-v1")
    card, old = thin.card, source.card
    for head in HEADS:
        row: dict[str, Any] = card["heads"][head]
        assert row["pearson_r"] == old[MEASURED][head]["pearson_r_every_2nd"]
        assert row["n"] == old["heads"][head]["n"]
        assert not {"ci95", "measures", "spearman", "rmse", "pearson_r_music_only"} & set(row)
        assert row["shipped"] == (head != "happiness")
    assert not {MEASURED, "robustness", "means", "int8", "embedding"} & set(card)
    assert card["listeners"] == []
    assert set(card["dropped"]) == {"happiness", "liveness"}
    assert card["reproduce"] == ["tunelab models patchout small-v1 --out models/thin-v1"]
    assert {name.split(".")[0] for name in load_file(thin.path / "heads.safetensors")} == {*HEADS} - {"happiness"}
    readme = (thin.path / "README.md").read_text()
    assert "Listeners" not in readme
    assert "happiness, r below the gate of 0.7" in readme


def test_what_cannot_be_made_is_told_and_nothing_is_written(source: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="small-v1 exists"):
        leave_out_patches(source, source.path)
    thin = leave_out_patches(source, tmp_path / "thin-v1")
    with pytest.raises(SettingsError, match="leaves out patches already"):
        leave_out_patches(thin, tmp_path / "thinner-v1")
    (source.path / "card.json").write_text("{}")
    with pytest.raises(SettingsError, match="does not say"):
        leave_out_patches(Bundle.open(source.path), tmp_path / "thinner-v1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small-v1", "thin-v1"]


def test_the_command(source: Bundle, tmp_path: Path) -> None:
    arguments = ["models", "patchout", str(source.path), "--out", str(tmp_path / "thin-v1")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    wanted = source.card[MEASURED]["energy"]["pearson_r_every_2nd"]
    assert f"energy            r {wanted:.3f} shipped" in result.output
    assert "happiness         r 0.690 dropped" in result.output
    assert Bundle.open(tmp_path / "thin-v1").pooling.time_patch_stride == 2
