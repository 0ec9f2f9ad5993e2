"""Plain data that the stages hand on. Imports nothing of TuneLab."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

HEADS: tuple[str, ...] = (
    "energy",
    "danceability",
    "happiness",
    "acousticness",
    "instrumentalness",
    "speechiness",
)
"""The six scores, in the order in which every answer lists them."""

EMBEDDING_SIZE = 768


@dataclass(frozen=True, slots=True)
class Waveform:
    """One mono window of a track.

    Attributes:
        samples: float32, shape ``(n,)``, full scale is +-1.
        sample_rate: samples per second.
        start_s: where in the track the window begins, in seconds.
        duration_s: length of the whole track in seconds, as far as the file tells.
    """

    samples: FloatArray
    sample_rate: int
    start_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Features:
    """What the encoder takes: one log-mel window and the length of the track that it came from.

    Attributes:
        mel: float32, shape ``(frames, mel_bins)``, standardised as the bundle says.
        duration_s: length of the whole track in seconds.
        revision: of the bundle whose front end computed it; empty where everything runs in one process.
    """

    mel: FloatArray
    duration_s: float
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the encoder hands on.

    Attributes:
        embedding: float32, shape ``(768,)``.
        duration_s: length of the whole track in seconds.
        revision: of the bundle that it was computed with, from the front end on.
    """

    embedding: FloatArray
    duration_s: float
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Analysis:
    """The answer about one track.

    Attributes:
        scores: head -> value in 0..1, not rounded; only the heads that the bundle ships.
        embedding: float32, shape ``(768,)``.
        duration_s: length of the whole track in seconds.
        model: name of the bundle.
        revision: which files the bundle had; empty where nothing is stored.
    """

    scores: Mapping[str, float]
    embedding: FloatArray
    duration_s: float
    model: str
    revision: str = ""

    def percent(self) -> dict[str, int]:
        """The scores as integers from 0 to 100, in the order of :data:`HEADS`."""
        return percent(self.scores)


def percent(scores: Mapping[str, float]) -> dict[str, int]:
    """Round scores in 0..1 to integers from 0 to 100. This is the only place where scores are rounded."""
    return {head: round(100 * scores[head]) for head in HEADS if head in scores}


def content_id(data: bytes) -> str:
    """Identity of a file's content: SHA-256 of its bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


class Pipeline(Protocol):
    """Bytes in, :class:`Analysis` out. The service depends on this and not on what is behind it."""

    model: str
    """Name of the bundle that answers."""
    revision: str
    """Which files that bundle has: a name may be given to better weights later. What is stored is told apart by it."""

    async def analyze(self, data: bytes) -> Analysis:
        """Analyse one file.

        Raises:
            AudioError: the file is at fault.
            PipelineError: the file may be fine, but there is no answer now.
        """
        ...

    async def ready(self) -> bool:
        """Whether a request sent now would be answered."""
        ...
