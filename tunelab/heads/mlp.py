"""Six small perceptrons that read scores from an embedding.

Each head is 768 -> 256 -> 1 with ReLU and a sigmoid. All of them together are 1.2 million multiplications, so they
run in NumPy, one track at a time: a track's scores cannot depend on its neighbours in a batch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tunelab.encoder.bundle import HEADS_FILE, Bundle
from tunelab.errors import BundleInvalid
from tunelab.types import HEADS, FloatArray

_TENSORS = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")


class Heads:
    """Embedding -> scores.

    Args:
        tensors: ``"{head}.hidden.weight"`` (hidden, width), ``"{head}.hidden.bias"`` (hidden,),
            ``"{head}.output.weight"`` (1, hidden) and ``"{head}.output.bias"`` (1,) for each head that is shipped.

    Raises:
        BundleInvalid: tensors are missing, do not fit each other, or belong to no known head.
    """

    def __init__(self, tensors: dict[str, FloatArray]) -> None:
        self.names = tuple(head for head in HEADS if f"{head}.{_TENSORS[0]}" in tensors)
        expected = {f"{head}.{tensor}" for head in self.names for tensor in _TENSORS}
        if not self.names or set(tensors) != expected:
            raise BundleInvalid(f"{HEADS_FILE} must hold {', '.join(_TENSORS)} for each of its heads and nothing else")
        self.width = int(tensors[f"{self.names[0]}.hidden.weight"].shape[-1])
        for head in self.names:
            hidden = tensors[f"{head}.hidden.bias"].shape[0]
            shapes = [tensors[f"{head}.{tensor}"].shape for tensor in _TENSORS]
            if shapes != [(hidden, self.width), (hidden,), (1, hidden), (1,)]:
                raise BundleInvalid(f"{HEADS_FILE}: the shapes of head {head!r} do not fit")
            if not all(np.isfinite(tensors[f"{head}.{tensor}"]).all() for tensor in _TENSORS):
                raise BundleInvalid(f"{HEADS_FILE}: head {head!r} has weights that are not finite")
        self._tensors = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}

    def __call__(self, embedding: FloatArray) -> dict[str, float]:
        """Score one track.

        Args:
            embedding: float32, shape ``(width,)``.

        Returns:
            head -> score in 0..1, not rounded.

        Raises:
            ValueError: the embedding has another shape or is not finite.
        """
        if embedding.shape != (self.width,) or not np.isfinite(embedding).all():
            raise ValueError(f"an embedding must hold {self.width} finite numbers")
        return {head: self._score(head, embedding) for head in self.names}

    def _score(self, head: str, embedding: FloatArray) -> float:
        weights = self._tensors
        hidden = weights[f"{head}.hidden.weight"] @ embedding + weights[f"{head}.hidden.bias"]
        np.maximum(hidden, 0.0, out=hidden)
        logit = float((weights[f"{head}.output.weight"] @ hidden + weights[f"{head}.output.bias"])[0])
        # tanh form of the sigmoid: cannot overflow.
        return 0.5 + 0.5 * float(np.tanh(0.5 * logit))


def load_heads(bundle: Bundle) -> Heads:
    """Read a bundle's heads.

    Raises:
        BundleInvalid: the file is missing, unreadable or does not fit.
    """
    path = bundle.path / HEADS_FILE
    if not path.is_file():
        raise BundleInvalid(f"{bundle.name} has no {HEADS_FILE}; train heads for it first")
    try:
        return Heads(load_file(path))
    except (SafetensorError, OSError) as error:
        raise BundleInvalid(f"{HEADS_FILE} cannot be read as safetensors") from error


def save_heads(path: Path, tensors: dict[str, FloatArray]) -> None:
    """Write heads in the bundle format, after the same checks that loading makes."""
    Heads(tensors)
    save_file({name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}, path)
