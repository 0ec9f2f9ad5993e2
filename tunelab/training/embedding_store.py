"""Embeddings computed once: a memory-mapped file for each bundle, keyed by the content of audio files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunelab.types import EMBEDDING_SIZE, FloatArray

_VECTORS, _KEYS = "embeddings.f32", "keys.txt"
_KEY_BYTES = 65
"""64 hexadecimal digits and a line end."""


class EmbeddingStore:
    """Vectors of one revision of one bundle; one process writes at a time.

    A vector is written before its key, so whatever a crash leaves behind is either whole or not there.

    Args:
        folder: of all stores.
        name: of the bundle.
        revision: of the bundle.
    """

    def __init__(self, folder: Path, name: str, revision: str) -> None:
        self.folder = folder / f"{name}-{revision}"
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (_VECTORS, _KEYS):
            (self.folder / file).touch()
        keys = (self.folder / _KEYS).read_bytes()
        whole = min(len(keys) // _KEY_BYTES, (self.folder / _VECTORS).stat().st_size // (4 * EMBEDDING_SIZE))
        self._rows = {keys[_KEY_BYTES * row : _KEY_BYTES * row + 64].decode(): row for row in range(whole)}
        for file, size in ((_VECTORS, 4 * EMBEDDING_SIZE), (_KEYS, _KEY_BYTES)):
            with (self.folder / file).open("r+b") as opened:
                opened.truncate(whole * size)

    def __contains__(self, content_id: str) -> bool:
        return content_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, content_id: str, embedding: FloatArray) -> None:
        """Keep one vector, float32 ``(768,)``; one that is there already stays as it is.

        Raises:
            ValueError: it has another shape, or ``content_id`` is none.
        """
        if embedding.shape != (EMBEDDING_SIZE,) or len(content_id) != 64:
            raise ValueError(f"an embedding has shape ({EMBEDDING_SIZE},), an id 64 digits")
        if content_id in self._rows:
            return
        # At its own place and not at the end: there may be a part of one that a full disk did not take.
        for name, content in (
            (_VECTORS, np.ascontiguousarray(embedding, "<f4").tobytes()),
            (_KEYS, f"{content_id}\n".encode()),
        ):
            with (self.folder / name).open("r+b") as file:
                file.seek(len(self._rows) * len(content))
                file.write(content)
        self._rows[content_id] = len(self._rows)

    def read(self, content_ids: Sequence[str]) -> FloatArray:
        """Vectors of several files, float32 ``(n, 768)``, in their order; only those rows are read from the disk.

        Raises:
            KeyError: one is not there.
        """
        rows = [self._rows[content_id] for content_id in content_ids]
        if not rows:
            return np.zeros((0, EMBEDDING_SIZE), np.float32)
        vectors = np.memmap(self.folder / _VECTORS, "<f4", "r", shape=(len(self._rows), EMBEDDING_SIZE))
        return np.asarray(vectors[rows], np.float32)
