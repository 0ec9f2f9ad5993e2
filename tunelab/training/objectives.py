"""What one training step minimises: the distance to the teachers, and two terms that ask for more than they know."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from pydantic import ConfigDict, NonNegativeFloat
from pydantic.dataclasses import dataclass
from torch.nn import functional

from tunelab.training.clips import MEL_FLOOR_DB, MEL_STEP_DB
from tunelab.training.precision import quick_arithmetic
from tunelab.training.student import PATCHES, Student, choose_patches, two_views
from tunelab.training.targets import DENSE_VARIANCE, Data, token_times

HIDDEN_PATCHES = 24
"""Patches of each clip that the masked objective asks for; the encoder does not see them."""
OUTLIER = 2.0
"""Mean square error of a clip from which on it counts less and less: targets have a variance of about 1, and a few
clips with a hundred times as much would rule the step."""
TEMPERATURE = 0.1
"""Of the contrastive objective."""


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Objective:
    """Levels vary by up to ``gain_db``; the others are weights, 0 for an objective that is left out.

    Attributes:
        gain_db: see above.
        scores: what is told of the whole clip: vibenet's scores, shares of voice, the labels of the heads.
        masked: spectrogram patches that were not seen, told from the embedding and their places.
        contrast: the two halves of a clip's time, encoded apart, find each other among the clips of
            a worker's part of the batch (InfoNCE).
        shifted: whether each clip begins at any of its frames. Patches do not overlap, so the same music
            begun half a patch later makes other patches of it, in which it has to be heard the same.
    """

    gain_db: NonNegativeFloat = 4.0
    scores: NonNegativeFloat = 2.0
    masked: NonNegativeFloat = 0.0
    contrast: NonNegativeFloat = 0.0
    shifted: bool = True


PLAIN = Objective()
"""The teachers alone."""


def loss_of(
    student: Student,
    data: Data,
    index: torch.Tensor,
    crop: bool,
    generator: torch.Generator,
    objective: Objective = PLAIN,
) -> torch.Tensor:
    """Variance-normalised distance to the targets of one batch; clip-level targets only when 30 s are seen."""
    views = 2 if objective.contrast and not crop else 1
    kept = two_views(len(index), generator) if views == 2 else choose_patches(len(index), crop, generator)
    gain = (torch.rand(len(index), 1, 1, generator=generator) * 2 - 1) * objective.gain_db
    shifts = torch.randint(data.mels.shape[1] if objective.shifted else 1, (len(index),), generator=generator)
    decibels = rolled(data.mels, index, shifts).float() * MEL_STEP_DB + MEL_FLOOR_DB
    mels = ((decibels + gain).clamp(min=MEL_FLOOR_DB) - data.mean) / data.std
    rows = token_times(shifts, data.mels.shape[1]).gather(1, kept)
    wanted = data.dense[index].gather(1, rows[:, :, None].expand(-1, -1, data.dense.shape[-1]))
    with quick_arithmetic():
        dense, pooled, trunk, scores, seen = (output.float() for output in student(mels, kept, views))
    spread = data.dense.shape[-1] / DENSE_VARIANCE
    loss = (_error(dense, wanted) + 4 * _error(pooled, wanted.mean(1))) * spread
    if not crop:
        loss = loss + functional.mse_loss(trunk, data.trunk[index])
        loss = loss + objective.scores * _error(scores, data.scores[index])
    if objective.masked and not crop:
        loss = loss + objective.masked * masked_loss(student, mels, kept, seen.mean(1), generator)
    if views == 2:
        loss = loss + objective.contrast * contrastive_loss(student.to_view(seen))
    return loss


def rolled(mels: torch.Tensor, index: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Clips that begin ``shifts`` frames later, what was before then at their end; shape ``(batch, frames, bins)``."""
    frames = mels.shape[1]
    return mels[index[:, None], (torch.arange(frames)[None] + shifts[:, None]) % frames]


def masked_loss(
    student: Student, mels: torch.Tensor, kept: torch.Tensor, embeddings: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Mean square error of :data:`HIDDEN_PATCHES` patches that are not in ``kept``."""
    draws = torch.rand(len(kept), PATCHES, generator=generator).scatter(1, kept, -1.0)
    hidden = draws.topk(HIDDEN_PATCHES, dim=1).indices
    told = student.to_patches(embeddings[:, None] + student.positions()[hidden])
    return functional.mse_loss(told, student.patches(mels, hidden))


def contrastive_loss(views: torch.Tensor) -> torch.Tensor:
    """InfoNCE both ways between two views of each clip, shape ``(clips, 2, width)``: 1 where nothing is told apart."""
    unit = functional.normalize(views, dim=-1)
    similar = unit[:, 0] @ unit[:, 1].T / TEMPERATURE
    right = torch.arange(len(views))
    both = functional.cross_entropy(similar, right) + functional.cross_entropy(similar.T, right)
    return both / (2 * math.log(max(len(views), 2)))


def _error(output: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean square error over the targets that are known (not NaN), clips far off softened as by Charbonnier's loss."""
    known = ~wanted.isnan()
    inside = tuple(range(1, wanted.ndim))
    counts = known.sum(inside)
    squares = (output - wanted).where(known, 0.0).square().sum(inside) / counts.clamp(min=1)
    softened = 2 * OUTLIER * ((1 + squares / OUTLIER).sqrt() - 1)
    return (softened * counts).sum() / counts.sum().clamp(min=1)


def set_gradients(
    student: Student,
    data: Data,
    index: torch.Tensor,
    crop: bool,
    generators: list[torch.Generator],
    pool: ThreadPoolExecutor,
    objective: Objective = PLAIN,
) -> float:
    """Set every weight's gradient for one batch, cut into one part per generator; the parts run side by side.

    Threads that meet once a step lose less on a busy machine than operators that are parallel inside.

    Returns:
        The loss.
    """
    weights = [weight for weight in student.parameters() if weight.requires_grad]

    def part(numbers: torch.Tensor, generator: torch.Generator) -> tuple[float, tuple[torch.Tensor | None, ...]]:
        loss = loss_of(student, data, numbers, crop, generator, objective)
        return loss.item(), torch.autograd.grad(loss, weights, allow_unused=True)

    losses, parts = zip(*pool.map(part, index.chunk(len(generators)), generators), strict=True)
    for weight, *gradients in zip(weights, *parts, strict=True):
        present = [gradient for gradient in gradients if gradient is not None]
        # Added up one by one: a stack would copy all of them first.
        weight.grad = sum(present[1:], start=present[0]) / len(present) if present else None
    return float(np.mean(losses))
