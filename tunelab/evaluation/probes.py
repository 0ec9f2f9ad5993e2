"""Clips of the corpus of which something is known that was never a label: language, key, tempo, instrument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from tunelab.training.scores import PIECES, PREFIX
from tunelab.training.speech import language_of, speaker_of
from tunelab.training.voice import SAMPLE_RATE as RATE
from tunelab.types import FloatArray

OF_A_LANGUAGE = 30
"""Clips of a language, at most."""
PAUSE_S = 0.2
TEMPO_CLASSES = 4
FAMILIES = (
    "piano", "mallets", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe", "lead", "pad",
    "effects", "folk", "percussion", "sounds",
)  # fmt: skip
"""Families of General MIDI programs, eight programs each."""


@dataclass(frozen=True, slots=True)
class Known:
    """Clips and what is known of each.

    Attributes:
        windows: float32, 16 kHz, each of shape ``(samples,)``; some are read on the way, so go through them once.
        labels: name -> one label a clip.
    """

    windows: Iterable[FloatArray]
    labels: dict[str, npt.NDArray[Any]]


def spoken(corpus: Path, samples: int, seed: int = 0) -> Known:
    """Clips of one speaker each, labelled by language: recordings are joined with short pauses, and used once.

    Args:
        corpus: folder with ``manifest.parquet`` and the unpacked packages in ``un``.
        samples: length of a clip.
        seed: decides the order of the recordings.
    """
    import pandas as pd

    table = pd.read_parquet(corpus / "manifest.parquet")
    paths = [path for path in table.path[table.kind == "speech"] if language_of(path)]
    np.random.default_rng(seed).shuffle(paths)
    of_speaker: dict[str, list[str]] = {}
    for path in paths:
        of_speaker.setdefault(speaker_of(path), []).append(path)
    windows: dict[str, list[FloatArray]] = {}
    # Speakers take turns, so that a language is not one speaker where it has several.
    turns = [_clips(corpus / "un", recordings, samples) for _, recordings in sorted(of_speaker.items())]
    languages = [language_of(recordings[0]) for _, recordings in sorted(of_speaker.items())]
    while turns:
        going = []
        for language, clips in zip(languages, turns, strict=True):
            kept = windows.setdefault(language, [])
            clip = next(clips, None) if len(kept) < OF_A_LANGUAGE else None
            if clip is not None:
                kept.append(clip)
                going.append((language, clips))
        languages, turns = [language for language, _ in going], [clips for _, clips in going]
    flat = [(language, window) for language, clips in sorted(windows.items()) for window in clips]
    return Known([window for _, window in flat], {"language": np.array([language for language, _ in flat])})


def _clips(root: Path, paths: list[str], samples: int) -> Iterator[FloatArray]:
    parts: list[FloatArray] = []
    for path in paths:
        parts += [_read(root / path, samples), np.zeros(int(PAUSE_S * RATE), np.float32)]
        if sum(map(len, parts)) >= samples:
            yield np.concatenate(parts)[:samples]
            parts = []


def rendered(corpus: Path, samples: int) -> Known:
    """The first seconds of pieces that were rendered from scores: key, mode, tempo and instrument.

    The instrument is the one that plays the melody; without one, the one with the most notes.
    """
    import pandas as pd

    tables = []
    for path in sorted((corpus / "un").glob(f"{PREFIX}*/{PIECES}")):
        table = pd.read_csv(path, converters={"programs": _leading})
        tables.append(table.assign(path=[path.parent / name for name in table.file]))
    if not tables:
        return Known([], {})
    pieces = pd.concat(tables)
    bounds = np.quantile(pieces.tempo, np.linspace(0, 1, TEMPO_CLASSES + 1)[1:-1])
    labels = {
        "key": pieces.tonic.to_numpy(),
        "mode": pieces["mode"].to_numpy(),
        "tempo": np.digitize(pieces.tempo, bounds),
        "instrument": np.array([FAMILIES[program // 8] for program in pieces.programs]),
    }
    # Hundreds of them do not have to be in memory at once.
    return Known((_read(path, samples) for path in pieces.path), labels)


def _leading(programs: str) -> int:
    return int(programs.strip("()").split(",")[0])


def _read(path: Path, samples: int) -> FloatArray:
    with sf.SoundFile(path) as file:
        audio = file.read(int(samples / RATE * file.samplerate) + 1, dtype="float32", always_2d=True).mean(axis=1)
        resampled: FloatArray = soxr.resample(audio, file.samplerate, RATE, quality="MQ")
    return resampled[:samples]
