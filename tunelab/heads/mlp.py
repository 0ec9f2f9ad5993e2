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
        first = tensors[f"{self.names[0]}.hidden.weight"]
        self.width = first.shape[1] if first.ndim == 2 else 0
        for head in self.names:
            hidden = tensors[f"{head}.hidden.bias"].size
            shapes = [tensors[f"{head}.{tensor}"].shape for tensor in _TENSORS]
            if 0 in (hidden, self.width) or shapes != [(hidden, self.width), (hidden,), (1, hidden), (1,)]:
                raise BundleInvalid(f"{HEADS_FILE}: the shapes of head {head!r} do not fit")
        if any(value.dtype.kind != "f" for value in tensors.values()):
            raise BundleInvalid(f"{HEADS_FILE} must hold floating-point numbers")
        with np.errstate(over="ignore"):  # what single precision cannot hold is found below
            self._tensors = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}
        for name, value in self._tensors.items():
            if not np.isfinite(value).all():
                raise BundleInvalid(f"{HEADS_FILE}: {name} holds numbers that are not finite")

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
        heads = Heads(load_file(path))
    except (SafetensorError, OSError) as error:
        raise BundleInvalid(f"{HEADS_FILE} cannot be read as safetensors") from error
    except (TypeError, KeyError) as error:  # bfloat16, of which NumPy knows nothing
        raise BundleInvalid(f"{HEADS_FILE} must hold float32, or another type that NumPy has") from error
    if heads.width != bundle.shape.hidden_size:
        raise BundleInvalid(f"{HEADS_FILE} takes {heads.width} numbers, the encoder gives {bundle.shape.hidden_size}")
    return heads


def save_heads(path: Path, tensors: dict[str, FloatArray]) -> None:
    """Write heads in the bundle format, after the same checks that loading makes."""
    Heads(tensors)
    save_file({name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}, path)
