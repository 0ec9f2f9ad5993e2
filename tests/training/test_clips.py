"""Shards of clips: a seed is rendered once."""

from pathlib import Path

import pytest

from tunelab.errors import SettingsError
from tunelab.training.clips import render


def test_a_seed_is_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train-0003-0000.safetensors").touch()
    monkeypatch.setattr("tunelab.training.clips.Vibenet", lambda: None)
    with pytest.raises(SettingsError, match="train clips of seed 3 already"):
        render(tmp_path / "manifest.parquet", tmp_path, tmp_path, "train", 3, 1.0)
