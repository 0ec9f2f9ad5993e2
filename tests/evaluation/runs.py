"""A pre-training run's embeddings, made up."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def write_run(folder: Path, n: int = 60, width: int = 768) -> Path:
    """Write ``n`` clips of each split, of packages of ten; the last five are voice alone."""
    rng = np.random.default_rng(5)
    folder.mkdir()
    arrays = {}
    for split in ("train", "heldout"):
        known = np.zeros((n, 4), np.float32)
        known[:, 1] = np.arange(n) // 10
        known[-5:] = (1, -1, 1, 1)  # voice alone
        arrays |= {
            split: rng.normal(size=(n, width)).astype(np.float32),
            f"{split}_scores": rng.random((n, 7)).astype(np.float32),
            f"{split}_tags": rng.normal(size=(n, 100)).astype(np.float32),
            f"{split}_known": known,
        }
    save_file(arrays, folder / "embeddings.safetensors")
    return folder
