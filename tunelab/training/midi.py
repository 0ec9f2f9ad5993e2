"""Standard MIDI Files in packages -> FLAC files beside them, played by ``fluidsynth`` with one of the sound fonts.

Games from before sound files were affordable have their music as scores, some of them inside WAD archives (Doom's
format: a directory of lumps). People wrote these, for bands that free recordings have few of.
"""

from __future__ import annotations

import gzip
import logging
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tunelab.training.beside import beside, make_beside
from tunelab.training.scores import find_sound_fonts, synthesise

log = logging.getLogger(__name__)

MIDI_SUFFIXES = (".mid", ".midi", ".mid.gz", ".midi.gz")
WAD_SUFFIX = ".wad"
UNPACKED = ".lumps"
"""Added to the name of a WAD: the folder of the scores that were in it."""
RENDERED = ".played.flac"
"""Added to a score's name: where its sound is kept."""
HEADER = b"MThd"
LARGEST = 1 << 20
"""Bytes of a score: there are longer ones, but no music that a game plays."""
_WAD = struct.Struct("<4sII")
_LUMP = struct.Struct("<II8s")


def unpack_wads(folder: Path) -> None:
    """Write the scores in every WAD of a folder to files beside it, once."""
    for wad in sorted(folder.rglob("*")):
        target = wad.with_name(wad.name + UNPACKED)
        if wad.suffix.lower() != WAD_SUFFIX or wad.is_symlink() or not wad.is_file() or target.exists():
            continue
        unfinished = target.with_name(target.name + ".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for number, score in enumerate(_lumps(wad.read_bytes())):
            (unfinished / f"{number:03d}.mid").write_bytes(score)
        unfinished.rename(target)


def _lumps(wad: bytes) -> Iterator[bytes]:
    """The Standard MIDI Files in a WAD; nothing where its directory is none."""
    if len(wad) < _WAD.size:
        return
    magic, count, directory = _WAD.unpack_from(wad)
    if magic not in {b"IWAD", b"PWAD"} or directory + count * _LUMP.size > len(wad):
        log.warning("a WAD without a directory is left out")
        return
    for number in range(count):
        start, size, _ = _LUMP.unpack_from(wad, directory + number * _LUMP.size)
        if (lump := wad[start : start + size]).startswith(HEADER):
            yield lump


def find_scores(folder: Path) -> Iterator[Path]:
    """Standard MIDI Files in a folder, compressed ones among them, in order of their paths."""
    for path in sorted(folder.rglob("*")):
        name = path.name.lower()
        if name.endswith(MIDI_SUFFIXES) and name[0] != "." and path.is_file() and not path.is_symlink():
            yield path


def render_midi(folder: Path) -> int:
    """Play every score in a folder that has no sound yet, those in WADs too, some at once; call again to resume.

    Each ``NAME`` becomes ``NAME.played.flac``, whole or not at all. The score decides the sound font and the room, so
    that the same score in two packages gives the same bytes. What cannot be played, and a missing player, is logged as
    a warning.

    Returns:
        How many have a sound now.
    """
    unpack_wads(folder)
    scores = list(find_scores(folder))
    waiting = sum(not played(score).exists() for score in scores)
    synthesizer, fonts = shutil.which("fluidsynth"), find_sound_fonts()
    if waiting and (synthesizer is None or not fonts):
        log.warning("%s: %d scores are left out: fluidsynth or a sound font is missing", folder.name, waiting)
        return len(scores) - waiting
    return make_beside(scores, RENDERED, partial(_play, synthesizer or "", fonts), "played")


def played(score: Path) -> Path:
    """Where a score's sound is kept."""
    return beside(score, RENDERED)


def _play(synthesizer: str, fonts: list[Path], score: Path, target: Path) -> str:
    """Play one score; why it did not work, or nothing."""
    try:
        midi = _read(score)
        if not midi.startswith(HEADER):
            return "no Standard MIDI File"
        if len(midi) > LARGEST:
            return "too long"
        rng = np.random.default_rng(zlib.crc32(midi))
        synthesise(synthesizer, midi, fonts[int(rng.integers(len(fonts)))], target, rng)
    except subprocess.CalledProcessError as error:
        return f"fluidsynth ended with code {error.returncode}"
    except subprocess.TimeoutExpired:
        return "not done in time"
    except (EOFError, zlib.error) as error:
        return str(error)
    return ""


def _read(score: Path) -> bytes:
    """A score's bytes, at most one more than :data:`LARGEST`."""
    if score.suffix.lower() == ".gz":
        with gzip.open(score) as file:
            return file.read(LARGEST + 1)
    with score.open("rb") as file:
        return file.read(LARGEST + 1)
