"""Bundles, and a cache folder of the session's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support import make_bundle
from tunelab.encoder import Bundle, Engine, find_bundle, load_engine
from tunelab.types import FloatArray

FRAMES = 476
"""A quarter of the shipped window: 8 x 29 patches."""


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``$XDG_CACHE_HOME``, empty at the start of the session."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(path))
        yield path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two blocks with random weights, of every second column of patches."""
    return Bundle.open(make_bundle(tmp_path_factory.mktemp("bundles") / "small", frames=FRAMES, time_patch_stride=2))


@pytest.fixture(scope="session")
def shipped() -> Bundle:
    return find_bundle()


@pytest.fixture(scope="session")
def mels() -> FloatArray:
    """Three windows that have nothing in common."""
    return np.random.default_rng(0).standard_normal((3, FRAMES, 128)).astype(np.float32)


@pytest.fixture(scope="session")
def reference(small: Bundle) -> Engine:
    """PyTorch in single precision."""
    return load_engine(small, "torch", threads=2, precision="f32")


@pytest.fixture(scope="session")
def wanted(reference: Engine, mels: FloatArray) -> FloatArray:
    return reference(mels)


def cosines(left: FloatArray, right: FloatArray) -> FloatArray:
    product: FloatArray = (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    return product
