"""Pieces of sound that tracks are put together from: synthetic, or from the user's own files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import typer

from benchmarks.files import synthesise
from tunelab.audio.decode import decode
from tunelab.audio.files import find_files
from tunelab.errors import TuneLabError
from tunelab.types import FloatArray

RATE = 16_000
PIECE_S = 30.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a track.

    Attributes:
        name: two pieces of one name are never put together.
        samples: mono, peak 1, 30 s at 16 kHz.
    """

    name: str
    samples: FloatArray


def own_pieces(folder: Path, most: int, rng: np.random.Generator) -> list[Piece]:
    """The middles of up to ``most`` tracks of at least 30 s, drawn from a folder."""
    paths = list(find_files([folder]))
    found: list[Piece] = []
    for number in rng.permutation(len(paths)):
        try:
            samples = decode(paths[number], sample_rate=RATE, window_s=PIECE_S).samples
        except TuneLabError:
            continue
        if samples.size == round(PIECE_S * RATE):
            found.append(Piece(paths[number].name, samples / np.abs(samples).max()))
        if len(found) == most:
            break
    if len(found) < 2:
        raise typer.BadParameter("there are not two tracks of 30 s in it", param_hint="--files")
    return found


def synthetic_pieces() -> list[Piece]:
    """Six that have little in common: a band, its chords an octave lower, drums, a bell, a low drone, hiss."""
    rng = np.random.default_rng(0)
    at = np.arange(round(PIECE_S * RATE)) / RATE
    band = np.concatenate([bar[::3].mean(axis=1)[: bar.shape[0]] for bar in synthesise(1.1 * PIECE_S, 0)])
    noise = rng.standard_normal(at.size)
    made = {
        "band": band,
        "octave": np.repeat(band, 2),
        "drums": noise * np.exp(-12 * (at % 0.25)) + np.sin(2 * np.pi * 60 * at) * np.exp(-8 * (at % 0.5)),
        "bell": sum(np.sin(2 * np.pi * 880 * partial * at) / partial for partial in (1, 2.76, 5.4)) * np.exp(-(at % 2)),
        "drone": sum(np.sin(2 * np.pi * 55 * partial * at) / partial for partial in range(1, 9)),
        "hiss": noise * (1 + 0.5 * np.sin(2 * np.pi * 0.5 * at)),
    }
    cut = {name: np.asarray(samples[: at.size], np.float32) for name, samples in made.items()}
    return [Piece(name, samples / np.abs(samples).max()) for name, samples in cut.items()]


def draw(pieces: Sequence[Piece], rng: np.random.Generator) -> tuple[Piece, Piece]:
    """Two of them, of different names."""
    while True:
        one, two = (pieces[number] for number in rng.choice(len(pieces), 2, replace=False))
        if one.name != two.name:
            return one, two


def wav(samples: FloatArray) -> bytes:
    """A mono WAV file of 32-bit floats."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()
