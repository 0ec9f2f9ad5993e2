"""Embeddings as directions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tunelab.types import EMBEDDING_SIZE, FloatArray


def embeddings(column: pa.FixedSizeListArray) -> npt.NDArray[np.float16]:
    """The numbers of a column ``embedding`` of a batch job's rows, none of which is null.

    Returns:
        float16, shape ``(rows, 768)``; NaN where a single number is null.
    """
    # flatten() and not values: the latter forgets where a slice begins.
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float16).reshape(-1, EMBEDDING_SIZE)


def cosines(vectors: npt.NDArray[np.floating], direction: FloatArray) -> FloatArray:
    """Cosine of each row and ``direction``; 0 where one of them has no direction.

    Args:
        vectors: shape ``(n, width)``, of any precision.
        direction: shape ``(width,)``.

    Returns:
        float32, shape ``(n,)``.
    """
    rows = vectors.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # numbers that are none have no direction, either
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows)) * np.linalg.norm(direction)
        # Not BLAS: for so little work its threads mostly wait, and take the cores from whoever reads the next rows.
        products = np.einsum("ij,j->i", rows, direction)
    known = np.isfinite(lengths) & (lengths > 0)
    found: FloatArray = np.divide(products, lengths, out=np.zeros_like(lengths), where=known)
    return np.clip(found, -1, 1, out=found)


def mean_direction(vectors: FloatArray) -> FloatArray:
    """Direction of the mean of the rows' unit vectors: each counts the same, however long it is.

    Args:
        vectors: shape ``(n, width)``, n >= 1.

    Returns:
        float32, shape ``(width,)``: a unit vector, or zeros where the rows cancel each other out.
    """
    mean: FloatArray = _unit(_unit(vectors.astype(np.float64)).mean(axis=0, keepdims=True))[0].astype(np.float32)
    return mean


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: npt.NDArray[np.float64] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return found
