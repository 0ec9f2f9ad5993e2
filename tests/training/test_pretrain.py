import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tunelab.training import pretrain as module
from tunelab.training.pretrain import CHECKPOINT, PretrainConfig, pretrain, token_times


def _clips(folder: Path, n: int = 8) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    arrays = {
        "mel": rng.integers(0, 255, (n, 1876, 128)).astype(np.uint8),
        "dense": rng.normal(size=(n, 46, 1280)).astype(np.float16),
        "trunk": rng.normal(size=(n, 256)).astype(np.float32),
        "scores": rng.random((n, 7)).astype(np.float32),
        "activity": rng.random((n, 46)).astype(np.float32),
        "known": np.stack([rng.integers(0, 2, n), rng.integers(0, 4, n), rng.random(n), rng.random(n)], 1),
    }
    arrays["known"] = arrays["known"].astype(np.float32)
    save_file(arrays, folder / "train-0001-0000.safetensors")


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _clips(tmp_path / "clips")
    config = PretrainConfig(minutes=0.2, batch=1, start_layers=1, layers=2, grow_at=0.6, checkpoint_s=0.0)
    calls, real = [], module.loss_of

    def stops(*args: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "loss_of", stops)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "clips", tmp_path / "run", config)
    assert (tmp_path / "run" / CHECKPOINT).exists()
    run = pretrain(tmp_path / "clips", tmp_path / "run", config)
    assert run["steps"] >= 3
    assert run["clip_steps"] == run["steps"]
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == run
    assert not (tmp_path / "run" / CHECKPOINT).exists()
    steps = [line.split(",")[0] for line in (tmp_path / "run" / "curve.csv").read_text().splitlines()]
    assert steps[:4] == ["step", "1", "2", "3"]


def test_tokens_know_their_time() -> None:
    times = token_times()
    assert times.shape == (936,)
    assert times[0] == times[117] == 0
    assert times[116] == 45
