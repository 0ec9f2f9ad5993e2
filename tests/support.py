"""What several test modules share: small model bundles with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import ASTConfig, ASTModel

from tunelab.heads import save_heads
from tunelab.types import HEADS

MEL = {
    "sampling_rate": 16000,
    "n_fft": 1024,
    "hop_length": 256,
    "win_length": 1024,
    "num_mel_bins": 128,
    "fmin": 0.0,
    "fmax": 8000.0,
    "log": "db",
    "floor": -100.0,
    "mean": -35.0,
    "std": 20.0,
    "max_length": 1876,
}


def make_bundle(folder: Path, *, layers: int = 2, seed: int = 0, frames: int = 1876, **tunelab: Any) -> Path:
    """Write a bundle of the shipped shape, but with few blocks and random weights, into ``folder``.

    ``frames`` shortens its window, ``tunelab`` goes into that section of ``config.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = ASTConfig(
        num_hidden_layers=layers, num_mel_bins=128, max_length=frames, frequency_stride=16, time_stride=16
    )
    model = ASTModel(config).eval()
    with torch.no_grad():
        model.embeddings.position_embeddings.normal_(std=0.3)
        model.embeddings.cls_token.normal_(std=0.3)
        model.embeddings.distillation_token.normal_(std=0.3)
        for parameter in model.layers.parameters():
            parameter.mul_(2.0)
    save_file({name: value.half() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    section = {"layer": layers, "pooling": "mean", "time_patch_stride": 1, **tunelab}
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "tunelab": section}))
    (folder / "preprocessor_config.json").write_text(json.dumps({**MEL, "max_length": frames}))
    (folder / "card.json").write_text(json.dumps({"name": folder.name, "version": "test", "heads": {}}))
    rng = np.random.default_rng(seed)
    tensors = {}
    for head in HEADS:
        tensors[f"{head}.hidden.weight"] = rng.normal(0, 0.05, (256, 768)).astype(np.float32)
        tensors[f"{head}.hidden.bias"] = rng.normal(0, 0.1, 256).astype(np.float32)
        tensors[f"{head}.output.weight"] = rng.normal(0, 0.2, (1, 256)).astype(np.float32)
        tensors[f"{head}.output.bias"] = np.zeros(1, np.float32)
    save_heads(folder / "heads.safetensors", tensors)
    return folder
