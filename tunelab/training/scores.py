"""Render made-up pieces with sound fonts: music whose instruments are known, as packages of the corpus."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tunelab.errors import SettingsError
from tunelab.training.compose import compose
from tunelab.training.parallel import parallel_map

PREFIX = "rendered-"
ACOUSTIC, ELECTRONIC = f"{PREFIX}acoustic", f"{PREFIX}electronic"
PACKAGES: tuple[str, ...] = (*(f"{ACOUSTIC}-{number}" for number in range(5)), f"{ELECTRONIC}-0", f"{ELECTRONIC}-1")
"""Like the others, they are split by a hash of their names."""
SOUND_FONTS: dict[str, str] = {
    "FluidR3_GM.sf2": "Expat",
    "TimGM6mb.sf2": "GPL-2",
    "MuseScore_General.sf3": "Expat",
}
"""Sound fonts in Debian main (fluid-soundfont-gm, timgm6mb-soundfont, musescore-general-soundfont): licences."""
PIECES = "pieces.csv"
"""In each package: what is known of its pieces."""
SECONDS = 50.0
RATE = 32_000


def find_sound_fonts(root: Path = Path("/usr/share/sounds")) -> list[Path]:
    """The installed ones of :data:`SOUND_FONTS`, in their order."""
    return [path for name in SOUND_FONTS for path in sorted(root.glob(f"sf*/{name}"))]


def render_scores(out: Path, count: int, fonts: list[Path]) -> int:
    """Make ``count`` pieces a package below ``out``, some at once; those that are there are left alone.

    Each package gets ``pieces.csv``: what is known of each piece.

    Returns:
        Pieces rendered now.

    Raises:
        SettingsError: fluidsynth, or every sound font, is missing.
        CalledProcessError: fluidsynth failed.
    """
    synthesizer = shutil.which("fluidsynth")
    if synthesizer is None or not fonts:
        raise SettingsError("rendered scores need fluidsynth and a sound font, such as Debian's fluid-soundfont-gm")
    made = 0
    for package_number, package in enumerate(PACKAGES):
        folder = out / package
        folder.mkdir(parents=True, exist_ok=True)
        render = partial(_render_piece, folder, package_number, synthesizer=synthesizer, fonts=fonts)
        pieces = list(parallel_map(render, range(count)))
        made += sum(new for _, new in pieces)
        rows = [row for row, _ in pieces]
        describe_package(folder, rows, {SOUND_FONTS.get(font.name, "unknown") for font in fonts})
    return made


def _render_piece(
    folder: Path, package_number: int, number: int, synthesizer: str, fonts: list[Path]
) -> tuple[dict[str, Any], bool]:
    """Make one piece of a package, if it is not there: what is known of it, and whether it was made now."""
    rng = np.random.default_rng([package_number, number])
    piece = compose(rng, electronic=folder.name.startswith(ELECTRONIC), seconds=SECONDS)
    font = fonts[int(rng.integers(len(fonts)))]
    audio = folder / f"{number:03d}.flac"
    row: dict[str, Any] = {"file": audio.name, "sound_font": font.name, **asdict(piece)}
    del row["midi"]
    if new := not audio.exists():
        synthesise(synthesizer, piece.midi, font, audio, rng)
    return row, new


def describe_package(folder: Path, pieces: list[dict[str, Any]], licences: Collection[str]) -> None:
    """Write :data:`PIECES`, a row a piece, and the licences where Debian's packages have theirs."""
    about = folder / "usr" / "share" / "doc" / folder.name
    about.mkdir(parents=True, exist_ok=True)
    (about / "copyright").write_text("".join(f"License: {licence}\n" for licence in sorted(licences)))
    with (folder / PIECES).open("w", newline="") as file:
        table = csv.DictWriter(file, list(pieces[0]))
        table.writeheader()
        table.writerows(pieces)


def synthesise(synthesizer: str, midi: bytes, font: Path, audio: Path, rng: np.random.Generator) -> None:
    """Render a Standard MIDI File with fluidsynth in a random room into ``audio`` (FLAC), whole or not at all.

    Raises:
        CalledProcessError: fluidsynth failed.
        TimeoutExpired: it was not done in five minutes.
    """
    score, unfinished = audio.with_suffix(".mid"), audio.with_suffix(".part")
    score.write_bytes(midi)
    room = {
        "synth.reverb.room-size": rng.uniform(0.1, 0.9),
        "synth.reverb.level": rng.uniform(0.1, 0.8),
        "synth.reverb.width": 0.5,
        "synth.gain": 0.5,
        "synth.sample-rate": RATE,
        "audio.file.type": "flac",
        "audio.file.format": "s16",
    }
    options = [f"--option={name}={value}" for name, value in room.items()]
    command = [synthesizer, "--no-shell", "--no-midi-in", "--quiet", *options, f"--fast-render={unfinished}"]
    try:
        subprocess.run([*command, str(font), str(score)], check=True, capture_output=True, timeout=300)  # noqa: S603
        unfinished.rename(audio)
    finally:
        score.unlink()
        unfinished.unlink(missing_ok=True)
