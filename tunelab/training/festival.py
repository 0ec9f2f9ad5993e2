"""Songs by festival's singing mode: synthetic singers of made-up syllables in known keys, as packages of the corpus.

Robots as those of :mod:`tunelab.training.synthetic_voices`, but here a synthesiser decides how words lie on
notes, not the vocoder that sings recorded speech again.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from tunelab.errors import SettingsError
from tunelab.training.melody import pitches_of
from tunelab.training.parallel import parallel_map
from tunelab.training.synthetic_voices import LANGUAGES
from tunelab.training.tonality import MAJOR, MINOR

log = logging.getLogger(__name__)

PROGRAM = "text2wave"
PREFIX = "synthetic-singers-"
MALE, FEMALE, CHILD = (40.0, 50.0), (50.0, 60.0), (54.0, 62.0)
"""Where a voice's lowest note may lie, in MIDI numbers."""
VOICES: Mapping[str, tuple[str, str, tuple[float, float]]] = {
    "kal_diphone": ("festvox-kallpc16k", "en", MALE),
    "ked_diphone": ("festvox-kdlpc16k", "en", MALE),
    "pc_diphone": ("festvox-itapc16k", "it", MALE),
    "lp_diphone": ("festvox-italp16k", "it", FEMALE),
    "hy_fi_mv_diphone": ("festvox-suopuhe-mv", "fi", MALE),
    "suo_fi_lj_diphone": ("festvox-suopuhe-lj", "fi", FEMALE),
    "czech_dita": ("festvox-czech-dita", "cs", FEMALE),
    "czech_krb": ("festvox-czech-krb", "cs", CHILD),
}
"""For each voice its Debian package, its language, and its register. Voices made with HTS do not sing."""
MODES = {"major": MAJOR, "minor": MINOR}
HEAD = """<?xml version="1.0"?>
<!DOCTYPE SINGING PUBLIC "-//SINGING//DTD SINGING mark up//EN" "Singing.v0_1.dtd" []>
"""
NOTES = (28, 48)
"""Of a song, from and to."""
BEATS = (0.5, 1.0, 1.0, 1.0, 2.0)
TIMEOUT_S = 60
REST = 0.12
"""How often a rest of a beat follows a note."""


def render_songs(out: Path, count: int) -> int:
    """Have each voice sing ``count`` songs below ``out``, some at once; those that are there are left alone.

    Keys take turns; a file's name tells which one it is: ``07-minor-0003.wav`` is in G minor.

    Returns:
        Songs sung now; those at which festival crashed or hung are left out.

    Raises:
        SettingsError: festival, or one of the voices, is missing.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise SettingsError(f"synthetic singers need festival's {PROGRAM}")
    sung = 0
    for place, (voice, (package, _, _)) in enumerate(VOICES.items()):
        folder = out / f"{PREFIX}{voice.replace('_', '-')}"
        about = folder / "usr" / "share" / "doc" / folder.name
        about.mkdir(parents=True, exist_ok=True)
        (about / "copyright").write_text(_licence(package))
        sung += sum(parallel_map(partial(_sing, program, folder, place, voice), range(count)))
    return sung


def _sing(program: str, folder: Path, place: int, voice: str, number: int) -> bool:
    """Have a voice sing one song, if it is not there; whether it was sung now."""
    package, language, lowest = VOICES[voice]
    rng = np.random.default_rng([12, place, number])
    tonic, mode = number % 12, ("major", "minor")[number // 12 % 2]
    audio = folder / f"{tonic:02d}-{mode}-{number:04d}.wav"
    if audio.exists():
        return False
    score, unfinished = audio.with_suffix(".xml"), audio.with_suffix(".part")
    score.write_text(song(rng, language, tonic, MODES[mode], float(rng.uniform(*lowest))))
    command = [program, "-eval", f"(voice_{voice})", "-mode", "singing", "-o", str(unfinished), str(score)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=TIMEOUT_S)  # noqa: S603
        failure = f"ended with {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"took more than {TIMEOUT_S} s"
    finally:
        score.unlink()
    # Some syllables crash some voices. Without its voice it writes nothing and says that all is well.
    if failure:
        unfinished.unlink(missing_ok=True)
        log.warning("%s: no song %d: festival %s", voice, number, failure)
        return False
    if not unfinished.exists():
        raise SettingsError(f"festival has no voice {voice}: it is in the package {package}")
    unfinished.rename(audio)
    return True


def song(rng: np.random.Generator, language: str, tonic: int, scale: tuple[int, ...], low: float) -> str:
    """A made-up verse as festival's singing mode reads it: a syllable on each note.

    Args:
        rng: decides notes, lengths, words and tempo.
        language: of :data:`tunelab.training.synthetic_voices.LANGUAGES`.
        tonic: pitch class of the scale's first note.
        scale: semitones above the tonic.
        low: the lowest note that may be sung.
    """
    # Festival reads no UTF-8.
    onsets, vowels = ([part for part in letters.split() if part.isascii()] for letters in LANGUAGES[language])
    pitches = pitches_of(float(tonic), scale, low)
    place = int(rng.integers(len(pitches)))
    lines = []
    for _ in range(int(rng.integers(*NOTES))):
        hertz = 440.0 * 2 ** ((pitches[place] - 69) / 12)
        beats, word = float(rng.choice(BEATS)), str(rng.choice(onsets)) + str(rng.choice(vowels))
        lines.append(f'<PITCH FREQ="{hertz:.2f}"><DURATION BEATS="{beats}">{word}</DURATION></PITCH>')
        if rng.random() < REST:
            lines.append('<REST BEATS="1.0"></REST>')
        place = int(np.clip(place + rng.integers(-2, 3), 0, len(pitches) - 1))
    return f'{HEAD}<SINGING BPM="{int(rng.integers(60, 130))}">\n' + "\n".join(lines) + "\n</SINGING>\n"


def key_of_song(path: str) -> tuple[int, str]:
    """Tonic (semitones above C) and mode, as the name of a song's file tells."""
    tonic, mode, _ = Path(path).name.split("-")
    return int(tonic), mode


def _licence(package: str) -> str:
    """The copyright file of a voice's Debian package, or where it would be."""
    place = Path("/usr/share/doc") / package / "copyright"
    return place.read_text(errors="replace") if place.is_file() else f"See the Debian package {package}.\n"
