"""Songs that come as stems, one file an instrument -> the whole song as one file beside them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from tunelab.types import FloatArray

log = logging.getLogger(__name__)

STEM_PACKAGES = ("fretsonfire-",)
"""Beginnings of the names of packages that hold stems; a stem alone is not music that a user would send."""
STEMS = ("song", "guitar", "rhythm", "bass", "drums", "drums_1", "drums_2", "drums_3", "drums_4", "keys", "vocals")
"""What a song's folder may hold; ``song`` is all that no player plays. Previews and crowds are no part of it."""
MIXED = "mixed.flac"


def find_songs(folder: Path) -> Iterator[list[Path]]:
    """For each song under a folder its stems, ``song.ogg`` first; a song of one file is a stem itself."""
    for first in sorted(folder.rglob("song.ogg")):
        stems = [path for stem in STEMS if (path := first.with_name(f"{stem}.ogg")).is_file() and not path.is_symlink()]
        if stems:
            yield stems


def mix_stems(folder: Path) -> int:
    """Write ``mixed.flac`` into the folder of every song that has none yet; call again to resume.

    What cannot be read is logged as a warning.

    Returns:
        How many songs are mixed now.
    """
    done = 0
    for stems in find_songs(folder):
        target = stems[0].with_name(MIXED)
        if not target.exists():
            partial = target.with_name("." + target.name)
            try:
                samples, rate = mix_files(stems)
                sf.write(partial, samples, rate, format="FLAC", subtype="PCM_16")
                partial.rename(target)
            except (OSError, sf.LibsndfileError) as error:
                log.warning("%s: not mixed: %s", stems[0].parent.name, error)
                continue
            finally:
                partial.unlink(missing_ok=True)
        done += 1
    return done


def mix_files(stems: list[Path]) -> tuple[FloatArray, int]:
    """The sum of mono versions of several files, all from their beginning; shorter ones end in silence.

    Returns:
        Samples, shape ``(n,)``, scaled down where they would pass full scale; and the rate of the first file.

    Raises:
        soundfile.LibsndfileError: a file cannot be read.
    """
    mixed, rate = np.zeros(0, np.float32), 0
    for path in stems:
        audio, own_rate = sf.read(path, dtype="float32", always_2d=True)
        mono = audio.mean(axis=1)
        rate = rate or own_rate
        if own_rate != rate:
            mono = soxr.resample(mono, own_rate, rate)
        if len(mono) > len(mixed):
            mono, mixed = mixed, mono
        mixed[: len(mono)] += mono
    peak = float(np.abs(mixed).max()) if len(mixed) else 0.0
    return mixed / np.float32(max(peak, 1.0)), rate
