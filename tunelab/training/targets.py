"""Rendered clips -> what the encoder is asked for: the teachers' answers and known voice, standardised."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file

from tunelab.errors import SettingsError
from tunelab.training.clips import FRONT_END, decibels_of, open_shard
from tunelab.training.labels import SCORE_COLUMN, Labeller
from tunelab.training.musicnn import PATCH_FRAMES, TAGS, TAGS_FOLDER
from tunelab.training.musicnn import PATCHES as TAG_PATCHES
from tunelab.training.renderer import DENSE_ROWS, DENSE_STEP
from tunelab.training.scale import logit
from tunelab.training.student import PATCH, PATCHES, TIME_PATCHES
from tunelab.training.tonality import TONAL_COLUMNS
from tunelab.types import HEADS, FloatArray

DENSE_FRAMES: int = DENSE_STEP // FRONT_END["hop_length"]
"""Frames of 16 ms per row of the dense target: 40."""
DENSE_PCA = 192
DENSE_LIMIT = 16.0
"""vibenet's feature is below this in 99 of 100 clips and goes to 200 in a few, which would rule the whole loss."""
VOICE_SHARE, TAG_SHARE, TONAL_SHARE = 48.0, 150.0, 60.0
"""Variance of the voice, tag and key columns of the dense target; vibenet's sum to :data:`DENSE_PCA`."""
DENSE_VARIANCE = DENSE_PCA + VOICE_SHARE + TAG_SHARE + TONAL_SHARE
"""Of the dense target's columns together."""
TAG_COLUMNS = slice(-len(TAGS), None)
KEY_COLUMNS = slice(-len(TAGS) - TONAL_COLUMNS, -len(TAGS))
ANSWERS = ("scores", "tags", "known")
"""Arrays of clips that labels are made from."""
FOLLOWED = [SCORE_COLUMN[head] for head in HEADS]
"""Columns of the teacher's scores in the order of the six heads."""


@dataclass(slots=True)
class Data:
    """All training clips in memory, targets standardised.

    Attributes:
        mels: uint8, shape ``(n, 1876, 128)``.
        dense: targets for each 0.64 s, shape ``(n, 46, 307)``: vibenet's feature, voice and speech, pitch classes
            and mode, musicnn's tags; :data:`KEY_COLUMNS` and :data:`TAG_COLUMNS` tell where.
        trunk: vibenet's, shape ``(n, 256)``.
        scores: shape ``(n, 14)``: vibenet's six scores, shares of voice and speech, the labels of the six heads.
        weights: how often each clip is drawn, shape ``(n,)``.
        mean: of the spectrograms, in dB; ``std`` likewise.
        std: see there.
    """

    mels: torch.Tensor
    dense: torch.Tensor
    trunk: torch.Tensor
    scores: torch.Tensor
    weights: torch.Tensor
    mean: float
    std: float

    def only(self, chosen: npt.NDArray[np.bool_]) -> Data:
        """The chosen clips alone."""
        index = torch.from_numpy(np.flatnonzero(chosen))
        return replace(
            self,
            mels=self.mels[index],
            dense=self.dense[index],
            trunk=self.trunk[index],
            scores=self.scores[index],
            weights=self.weights[index],
        )


def load_clips(folder: Path, split: str, names: Collection[str] = ()) -> dict[str, np.ndarray[Any, Any]]:
    """All rendered shards of a split, concatenated, with their tags: NaN where a shard has not been tagged.

    Likewise for what is heard of the key in shards that are older than that. ``names`` are the arrays that are wanted;
    by default all, of which spectrograms and dense features take gigabytes.

    Raises:
        SettingsError: there are none, or some are of another front end.
    """
    shards = []
    for path in sorted(folder.glob(f"{split}-*.safetensors")):
        with open_shard(path) as file:
            shard = {name: file.get_tensor(name) for name in file.keys() if not names or name in names}  # noqa: SIM118
            count = file.get_slice("scores").get_shape()[0]
        tags = folder / TAGS_FOLDER / path.name
        missing = np.full((count, TAG_PATCHES, len(TAGS)), np.nan, np.float16)
        keyless = np.full((count, DENSE_ROWS, TONAL_COLUMNS), np.nan, np.float16)
        shards.append({"tonal": keyless} | shard | (load_file(tags) if tags.exists() else {"tags": missing}))
    if not shards:
        raise SettingsError(f"no rendered clips of split {split!r} in {folder.name}: render them first")
    wanted = [key for key in shards[0] if not names or key in names]
    return {key: np.concatenate([shard[key] for shard in shards]) for key in wanted}


def answers_of(clips: Mapping[str, np.ndarray[Any, Any]]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What a :class:`~tunelab.training.labels.Labeller` takes: scores ``(n, 7)``, mean tags ``(n, 100)``, ``known``.

    Raises:
        SettingsError: a clip has no tags yet.
    """
    if np.isnan(clips["tags"]).any():
        raise SettingsError("some clips have no tags: run the command `tag` to its end first")
    return clips["scores"], clips["tags"].astype(np.float32).mean(1), clips["known"]


def prepare(clips: dict[str, np.ndarray[Any, Any]]) -> Data:
    """Reduce and standardise the targets: dense by PCA, then voice and speech activity, keys and tags as columns."""
    dense = torch.from_numpy(clips["dense"]).float().clamp(max=DENSE_LIMIT)
    flat = dense.reshape(-1, dense.shape[-1])
    centre = flat.mean(0)
    torch.manual_seed(0)
    _, _, basis = torch.pca_lowrank(flat[torch.randperm(len(flat))[:20_000]] - centre, q=DENSE_PCA, center=False)
    reduced = (dense - centre) @ basis
    # One scale for all components: the small ones must not weigh as much as the large ones.
    reduced = reduced / reduced.reshape(-1, DENSE_PCA).std(0).square().mean().sqrt()
    activity = torch.from_numpy(clips["activity"])
    known = torch.from_numpy(clips["known"])
    spoken = activity * known[:, 3:4] / known[:, 2:3].clamp(min=1e-6)
    voice = torch.stack([activity, spoken], -1)
    # Each row of the dense target takes the tags of the patch of 3 s at its middle.
    rows = ((np.arange(DENSE_ROWS) + 0.5) * 0.64 / (PATCH_FRAMES * 0.016)).astype(int).clip(0, TAG_PATCHES - 1)
    tags = torch.from_numpy(clips["tags"][:, rows]).float()
    tonal = torch.from_numpy(clips["tonal"]).float()
    trunk = torch.from_numpy(clips["trunk"])
    teacher = torch.from_numpy(clips["scores"])[:, FOLLOWED].clamp(0.02, 0.98).logit()
    labels = torch.from_numpy(logit(head_labels(clips)))
    scores = torch.cat([teacher, torch.from_numpy(clips["known"][:, 2:4]), labels], 1)
    centres, spreads = _spread(scores)
    cells = (clips["scores"][:, 3] * 4).astype(int).clip(0, 3) * 4 + (clips["scores"][:, 5] * 8).astype(int).clip(0, 3)
    counts = np.bincount(cells, minlength=16)
    levels = decibels_of(clips["mel"][::7])
    return Data(
        mels=torch.from_numpy(clips["mel"]),
        dense=torch.cat(
            [reduced, _standard(voice, VOICE_SHARE), _standard(tonal, TONAL_SHARE), _standard(tags, TAG_SHARE)], -1
        ),
        trunk=(trunk - trunk.mean(0)) / (trunk.std(0) + 1e-3),
        scores=(scores - centres) / (spreads + 1e-6),
        weights=torch.from_numpy(counts[cells] ** -0.4),
        mean=round(float(levels.mean()), 3),
        std=round(float(levels.std()), 3),
    )


def head_labels(clips: dict[str, np.ndarray[Any, Any]]) -> npt.NDArray[np.float32]:
    """What the six heads will be asked for, shape ``(n, 6)``, 0..1; NaN for clips without tags."""
    tags = clips["tags"].astype(np.float32).mean(1)
    tagged = ~np.isnan(tags).any(1)
    labels = np.full((len(tags), len(HEADS)), np.nan, np.float32)
    if tagged.any():
        arguments = (clips["scores"][tagged], tags[tagged], clips["known"][tagged])
        of_heads = Labeller.measure(*arguments)(*arguments)
        labels[tagged] = np.stack([of_heads[head] for head in HEADS], 1)
    return labels


def _standard(columns: torch.Tensor, variance: float) -> torch.Tensor:
    """Standardise ``(clips, rows, columns)`` so that all columns have the same variance and the given sum."""
    mean, std = _spread(columns.reshape(-1, columns.shape[-1]))
    # A small corpus may have no speech at all: that column is then zero.
    return (columns - mean) / (std + 1e-6) * math.sqrt(variance / columns.shape[-1])


def _spread(columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each column of ``(rows, columns)``, over what is not NaN."""
    mean = columns.nanmean(0)
    return mean, (columns - mean).square().nanmean(0).sqrt()


def token_times(shifts: torch.Tensor, frames: int) -> torch.Tensor:
    """For each patch, the row of the dense target (0.64 s each) at its middle.

    Args:
        shifts: frames that each clip begins later, shape ``(n,)``.
        frames: of a clip; what was before its beginning is at its end.

    Returns:
        Shape ``(n, 936)``.
    """
    middles = torch.arange(PATCHES) % TIME_PATCHES * PATCH + PATCH // 2
    return ((middles[None] + shifts[:, None]) % frames // DENSE_FRAMES).clamp(max=DENSE_ROWS - 1)
