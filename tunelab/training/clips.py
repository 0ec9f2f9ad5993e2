"""Shards of training clips: the mel as bytes, the teacher's answers, what is known by construction, and a stamp."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
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
"""Clips in a file of them."""
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
    corpus: Path,
    split: str,
    seed: int,
    count: int,
    *,
    shares: Mapping[str, float] = KIND_WEIGHTS,
    processes: int = 1,
) -> int:
    """Render clips of one split and seed into ``corpus/clips``; shards that are there stay: call again to resume.

    Each shard follows from its number, the seed and the manifest alone: the same on any machine, in any number of
    processes, and the first ones stay when more are asked for.

    Each shard's audio, int16 ``(n, 480000)``, goes to a file of the same name in :data:`AUDIO`.

    Args:
        corpus: its folder, with a manifest.
        split: ``train`` or ``heldout``.
        seed: everything random follows from it.
        count: clips; rounded up to whole shards of :data:`SHARD`.
        shares: those of :class:`Renderer`.
        processes: shards that are rendered at once; with 1, in this process.

    Returns:
        Clips rendered now.

    Raises:
        SettingsError: there are clips of this split and seed with other shares of kinds, or of another front end.
    """
    out = corpus / "clips"
    (out / AUDIO).mkdir(parents=True, exist_ok=True)
    for path in out.glob(_shard_name(split, seed, "*")):
        with open_shard(path) as shard:
            if shard.metadata()["kinds"] != stamp(shares)["kinds"]:
                raise SettingsError(f"there are {split} clips of seed {seed} with other kinds: take another seed")
    wanted = range(math.ceil(count / SHARD))
    missing = [number for number in wanted if not (out / _shard_name(split, seed, f"{number:04d}")).exists()]
    render_one = partial(_render_shard, corpus, split, seed, shares)
    if processes == 1:
        return sum(map(render_one, missing))
    # An executor, for a pool of multiprocessing waits for ever where a process was killed.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(render_one, missing))


def _render_shard(corpus: Path, split: str, seed: int, shares: Mapping[str, float], number: int) -> int:
    """Render one shard, whole or not at all; the clips in it."""
    renderer = Renderer(corpus / "manifest.parquet", corpus / "un", split, (seed, number), shares)
    teacher, mel = _teacher(), LogMel(MelConfig(**FRONT_END, mean=0.0, std=1.0))
    rows: list[dict[str, Any]] = []
    audio: list[npt.NDArray[np.int16]] = []
    for _ in range(SHARD):
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
    arrays = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    out, name = corpus / "clips", _shard_name(split, seed, f"{number:04d}")
    # The audio first: a shard is there when all of it is.
    _save({"audio": np.stack(audio)}, out / AUDIO / name, {})
    _save(arrays, out / name, stamp(shares))
    return len(rows)


def _shard_name(split: str, seed: int, number: str) -> str:
    return f"{split}-{seed:04d}-{number}.safetensors"


def _save(arrays: dict[str, npt.NDArray[Any]], path: Path, metadata: dict[str, str]) -> None:
    unfinished = path.with_suffix(".part")
    save_file(arrays, unfinished, metadata)
    unfinished.replace(path)


@cache
def _teacher() -> Vibenet:
    """One for all shards of a process: it takes seconds to begin."""
    return Vibenet()
