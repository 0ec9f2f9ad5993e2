"""Heads by the number of labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.few_labels import agreement, main
from tunelab.errors import SettingsError
from tunelab.training import embed
from tunelab.training.musicnn import TAGS
from tunelab.types import FloatArray


def _labelled(n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    x = np.random.default_rng(seed).normal(size=(n, 768)).astype(np.float32)
    return x, (1 / (1 + np.exp(-x[:, :20].sum(1) / 4))).astype(np.float32)


def test_more_labels_agree_better() -> None:
    known, heldout = _labelled(400, 0), _labelled(200, 1)
    few, many = (agreement("energy", known, heldout, count, 1) for count in (40, 400))
    assert 0.0 < few + 0.15 < many < 1.0


def test_it_reads_what_a_run_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 90), ("heldout", 30)):
        x, labels = _labelled(count, count)
        arrays |= {split: x, f"{split}_scores": np.repeat(labels[:, None], 7, 1)}
        arrays |= {f"{split}_tags": rng.normal(size=(count, len(TAGS))).astype(np.float32)}
        arrays |= {f"{split}_known": np.tile(np.array([0, 1, 0, 0], np.float32), (count, 1))}
    (tmp_path / embed.WEIGHTS).write_bytes(b"an encoder")
    save_file(arrays, tmp_path / embed.EMBEDDINGS, {"encoder": embed._digest(tmp_path / embed.WEIGHTS)})
    main(tmp_path, "30", 1)
    told = capsys.readouterr().out
    assert "30 held-out clips" in told
    assert re.findall(r"^\W*(\d+)\s.*0\.\d{3}", told, re.MULTILINE) == ["30"]
    with pytest.raises(SettingsError, match="there are 90 labels"):
        main(tmp_path, "91", 1)
