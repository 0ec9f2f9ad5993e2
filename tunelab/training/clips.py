"""Shards of training clips: the mel as bytes, the teacher's answers, what is known by construction, and a stamp."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

from tunelab.audio.mel import LogMel, MelConfig
from tunelab.errors import SettingsError
from tunelab.training.kinds import KIND_WEIGHTS
from tunelab.training.renderer import DENSE_ROWS, DENSE_STEP, Renderer
from tunelab.training.teachers import Vibenet
from tunelab.training.tonality import tonal_rows
from tunelab.training.voice import SAMPLE_RATE
from tunelab.types import FloatArray

SHARD = 64
FRONT_END: dict[str, Any] = {
    "sampling_rate": 16_000,
    "n_fft": 1024,
    "hop_length": 256,
    "win_length": 1024,
    "normalize": "peak",
    "window": "hann",
    "center": True,
    "pad_mode": "constant",
    "num_mel_bins": 128,
    "fmin": 0.0,
    "fmax": 8000.0,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "power": 2.0,
    "log": "db",
    "floor": -100.0,
    "edge_db": (-0.3, -4.7, -17.9),
    "max_length": 1876,
}
"""The bundle's mel front end without mean and standard deviation, which are measured on the corpus. ``edge_db`` is what
``python -m benchmarks.band_edge`` measures on music as the decoder resamples it."""
MEL_FLOOR_DB, MEL_STEP_DB = -100.0, 0.6
AUDIO = "audio"
"""Folder beside the shards with the clips' audio, for teachers that label later."""


def stamp(shares: Mapping[str, float] = KIND_WEIGHTS) -> dict[str, str]:
    """What a shard says of itself: the front end of its spectrograms, and the shares of kinds that were asked for."""
    kinds = "" if shares == KIND_WEIGHTS else ",".join(f"{kind}={share:g}" for kind, share in shares.items())
    return {"front_end": json.dumps(FRONT_END), "kinds": kinds}


@contextmanager
def open_shard(path: Path) -> Iterator[Any]:
    """A shard as safetensors opens it, for arrays of NumPy.

    Raises:
        SettingsError: its spectrograms are of another front end than the one that encoders are given now.
    """
    with safe_open(path, "numpy") as file:
        if (file.metadata() or {}).get("front_end") != stamp()["front_end"]:
            raise SettingsError(f"{path.name} was rendered with another mel front end: render the clips anew")
        yield file


def decibels_of(quantised: npt.NDArray[np.uint8]) -> FloatArray:
    """Spectrograms in dB, float32, from the bytes that shards hold; the same shape."""
    decibels: FloatArray = quantised.astype(np.float32) * np.float32(MEL_STEP_DB) + np.float32(MEL_FLOOR_DB)
    return decibels


def render(
    manifest: Path,
    root: Path,
    out: Path,
    split: str,
    seed: int,
    seconds: float,
    *,
    most: int = 1_000_000,
    shares: Mapping[str, float] = KIND_WEIGHTS,
) -> int:
    """Write shards of clips into ``out`` until ``seconds`` have passed; call again with another seed for more.

    No more than ``most`` clips are rendered, whatever time is left; ``shares`` are those of :class:`Renderer`.

    Each shard's audio, int16 ``(n, 480000)``, goes to a file of the same name in :data:`AUDIO`.

    Returns:
        Clips written.

    Raises:
        SettingsError: there are clips of this split and seed already: they would be mixed up.
    """
    (out / AUDIO).mkdir(parents=True, exist_ok=True)
    if any(out.glob(f"{split}-{seed:04d}-*.safetensors")):
        raise SettingsError(f"there are {split} clips of seed {seed} already: take another")
    renderer, teacher = Renderer(manifest, root, split, seed, shares), Vibenet()
    mel = LogMel(MelConfig(**FRONT_END, mean=0.0, std=1.0))
    end, shard, done = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end and done < most:
        rows: list[dict[str, Any]] = []
        audio: list[npt.NDArray[np.int16]] = []
        while len(rows) < min(SHARD, most - done) and time.monotonic() < end:
            clip = renderer.clip()
            audio.append(np.round(clip.samples * 32767).astype(np.int16))
            labels = teacher(clip.samples)
            quantised = np.clip(np.round((mel(clip.heard) - MEL_FLOOR_DB) / MEL_STEP_DB), 0, 255).astype(np.uint8)
            rows.append(
                {
                    "mel": quantised,
                    "dense": labels.dense[:DENSE_ROWS].astype(np.float16),
                    "trunk": labels.trunk,
                    "scores": labels.scores,
                    "activity": clip.activity,
                    "tonal": tonal_rows(clip.samples, SAMPLE_RATE, DENSE_ROWS, DENSE_STEP).astype(np.float16),
                    "known": np.array([clip.kind, clip.package, clip.voice, clip.speech], np.float32),
                }
            )
        if rows:
            arrays = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
            name = f"{split}-{seed:04d}-{shard:04d}.safetensors"
            save_file({"audio": np.stack(audio)}, out / AUDIO / name)
            save_file(arrays, out / name, stamp(shares))
            shard, done = shard + 1, done + len(rows)
    return done


def render_both(
    corpus: Path, seed: int, seconds: float, heldout_seconds: float, shares: Mapping[str, float] = KIND_WEIGHTS
) -> None:
    """Render held-out and then training clips of one seed into ``corpus/clips``."""
    for split, budget in (("heldout", heldout_seconds), ("train", seconds)):
        if budget <= 0:
            continue
        render(corpus / "manifest.parquet", corpus / "un", corpus / "clips", split, seed, budget, shares=shares)
