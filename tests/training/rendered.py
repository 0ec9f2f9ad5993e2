"""Random clips as the renderer writes them."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tunelab.training.clips import stamp


def write_clips(folder: Path, n: int = 8, split: str = "train", seed: int = 0) -> None:
    """Two shards of ``n`` random clips; the second has not been tagged, and was rendered when keys were not kept."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    arrays = {
        "mel": rng.integers(0, 255, (n, 1876, 128)).astype(np.uint8),
        "dense": rng.normal(size=(n, 46, 1280)).astype(np.float16),
        "trunk": rng.normal(size=(n, 256)).astype(np.float32),
        "scores": rng.random((n, 7)).astype(np.float32),
        "activity": rng.random((n, 46)).astype(np.float32),
        "tonal": rng.random((n, 46, 13)).astype(np.float16),
    }
    # Every second clip is music alone.
    kind, voice, speech = np.arange(n) % 2, rng.random(n), rng.random(n)
    arrays["known"] = np.stack([kind, rng.integers(0, 4, n), kind * voice, kind * speech], 1).astype(np.float32)
    save_file(arrays, folder / f"{split}-0001-0000.safetensors", stamp())
    del arrays["tonal"]
    save_file(arrays, folder / f"{split}-0001-0001.safetensors", stamp())
    (folder / "tags").mkdir(exist_ok=True)
    tags = rng.normal(size=(n, 10, 100)).astype(np.float16)
    save_file({"tags": tags}, folder / "tags" / f"{split}-0001-0000.safetensors")
