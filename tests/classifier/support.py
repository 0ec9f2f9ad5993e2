"""Embeddings that tell a class as well as one wants, and what the best possible classifier reaches on them."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from tunelab.classifier.labels import Labels

WIDTH = 768


def made(
    n: int, classes: int, *, distance: float = 0.8, seed: int = 0, shares: list[float] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], float]:
    """Embeddings (n, 768), the class of each, and the accuracy of the Bayes classifier on them.

    The classes are normal distributions with distant means in 16 of the dimensions; the others are small noise.
    """
    rng = np.random.default_rng(seed)
    means = distance * rng.normal(size=(classes, 16))
    truth = rng.choice(classes, n, p=shares)
    inner = means[truth] + rng.normal(size=(n, 16))
    embeddings = np.hstack([inner, 0.2 * rng.normal(size=(n, WIDTH - 16))]) @ _turn().T + 2
    likelihood = -0.5 * ((inner[:, np.newaxis] - means) ** 2).sum(axis=2) + np.log(shares or [1 / classes] * classes)
    return embeddings.astype(np.float32), truth, float((likelihood.argmax(axis=1) == truth).mean())


@cache
def _turn() -> npt.NDArray[np.float64]:
    turn: npt.NDArray[np.float64] = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0]
    return turn


def single(truth: npt.NDArray[np.int64], groups: list[str] | None = None) -> Labels:
    """One class a track, named ``c0``, ``c1``, ..."""
    keys = tuple(f"t{number}" for number in range(len(truth)))
    names = tuple((f"c{value}",) for value in truth)
    return Labels("multiclass", keys, names, None if groups is None else tuple(groups))
