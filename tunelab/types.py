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

STEP_S, LEAST_STEP_S, MOST_STEP_S = 5.0, 1.0, 30.0
"""Length of a timeline's segments in seconds: where nothing else is asked for, and what may be."""

SILENCE_STEP_S = 0.05
"""How finely it is told where a track is digital silence, in seconds."""


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
class Outline:
    """What there is to know of a whole track's windows beside their spectrograms; small.

    Attributes:
        starts_s: where in the track each window begins, in seconds.
        duration_s: length of the whole track in seconds.
        silent: bool, shape ``(steps,)``: which of the track's steps of :data:`SILENCE_STEP_S` are digital silence.
        revision: of the bundle whose front end computed them; empty where everything runs in one process.
    """

    starts_s: tuple[float, ...]
    duration_s: float
    silent: npt.NDArray[np.bool_]
    revision: str = ""


@dataclass(frozen=True, slots=True)
class TrackFeatures:
    """A whole track as log-mel windows.

    Attributes:
        mels: float32, shape ``(windows, frames, mel_bins)``.
        outline: where they lie.
    """

    mels: FloatArray
    outline: Outline


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
class Columns:
    """What the encoder hands on for a window of a timeline.

    Attributes:
        embeddings: float32, shape ``(columns, width)``: one for each time column of patches.
        revision: of the bundle that they were computed with, from the front end on.
    """

    embeddings: FloatArray
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


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a track that sounds alike.

    Attributes:
        start_s: where it begins, in seconds.
        end_s: where it ends, in seconds.
        label: ``A``, ``B``, ...; the same where the track sounds the same again. ``None``: silence.
    """

    start_s: float
    end_s: float
    label: str | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The scores along one track.

    Attributes:
        start_s: where each segment begins, in seconds; the first at 0, each other where the one before ends.
        end_s: where each segment ends, in seconds; the last with the track.
        scores: head -> one value in 0..1 a segment, not rounded; ``None`` where it is digital silence. Only the heads
            that the bundle ships.
        sections: from the beginning of the track to its end.
        track: head -> value in 0..1 for the whole track.
        step_s: length of a segment; the last one may be up to half longer or shorter.
        duration_s: length of the track in seconds.
        model: name of the bundle.
        revision: which files the bundle had; empty where nothing is stored.
    """

    start_s: tuple[float, ...]
    end_s: tuple[float, ...]
    scores: Mapping[str, tuple[float | None, ...]]
    sections: tuple[Section, ...]
    track: Mapping[str, float]
    step_s: float
    duration_s: float
    model: str
    revision: str = ""

    def percent(self) -> dict[str, list[int | None]]:
        """The scores of the segments as integers from 0 to 100, in the order of :data:`HEADS`."""
        return {
            head: [None if score is None else _points(score) for score in self.scores[head]]
            for head in HEADS
            if head in self.scores
        }


def percent(scores: Mapping[str, float]) -> dict[str, int]:
    """Round scores in 0..1 to integers from 0 to 100. Nowhere but in this module are scores rounded."""
    return {head: _points(scores[head]) for head in HEADS if head in scores}


def _points(score: float) -> int:
    return round(100 * score)


def clock(seconds: float) -> str:
    """A place in a track for people: ``m:ss``."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"


def content_id(data: bytes) -> str:
    """Identity of a file's content: SHA-256 of its bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


class Pipeline(Protocol):
    """Bytes in, :class:`Analysis` or :class:`Timeline` out. The service depends on this, not on what is behind it."""

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

    async def timeline(self, data: bytes, step_s: float, max_s: float) -> Timeline:
        """Score one file along its length.

        Args:
            data: the file.
            step_s: length of a segment in seconds.
            max_s: longest track in seconds; a longer one is refused before the encoder works.

        Raises:
            TimelineUnsupported: the bundle's embeddings have no course over time.
            AudioError: the file is at fault; ``AudioTooLong``: the track is longer than ``max_s``.
            PipelineError: the file may be fine, but there is no answer now.
        """
        ...

    async def ready(self) -> bool:
        """Whether a request sent now would be answered."""
        ...
