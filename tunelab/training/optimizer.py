"""Muon for the matrices of the blocks (Jordan et al. 2024; update size matched to AdamW's as in Liu et al. 2025)."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from tunelab.training.precision import quick_dtype


def orthogonalise(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest half-orthogonal matrix, roughly: all singular values end near 1 (0.7..1.2), by Newton-Schulz.

    Leading dimensions are a batch of matrices.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(quick_dtype())
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: torch.Tensor = (x.mT if tall else x).to(matrix.dtype)
    return result


def orthogonalise_blocks(matrix: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Orthogonalise each of ``rows`` x ``columns`` equal blocks of a matrix for itself.

    For attention, whose heads are independent maps, this costs a twentieth of the whole matrix.
    """
    height, width = matrix.shape
    blocks = matrix.reshape(rows, height // rows, columns, width // columns).transpose(1, 2)
    return orthogonalise(blocks).transpose(1, 2).reshape(matrix.shape)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised. Only for two-dimensional weights.

    Args:
        params: weights, or groups of them that may set ``rows`` and ``columns``: into how many blocks their matrices
            are cut before each block is orthogonalised.
        pool: threads that share the weights among them.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        decay: float = 0.05,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self._pool = pool
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay, "rows": 1, "columns": 1})

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        jobs = [(group, weight) for group in self.param_groups for weight in group["params"] if weight.grad is not None]
        # The large ones first, so that the threads end together.
        jobs.sort(key=lambda job: -job[1].numel() // (job[0]["rows"] * job[0]["columns"]))
        for _ in (self._pool.map if self._pool else map)(self._update, jobs):
            pass

    @torch.no_grad()
    def _update(self, job: tuple[dict[str, Any], torch.nn.Parameter]) -> None:
        group, weight = job
        if weight.grad is None:
            return
        buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - group["momentum"])
        smooth = weight.grad.lerp(buffer, group["momentum"])
        update = orthogonalise_blocks(smooth, group["rows"], group["columns"])
        scale = 0.2 * max(weight.shape[0] // group["rows"], weight.shape[1] // group["columns"]) ** 0.5
        weight.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-group["lr"] * scale)
