"""Speak made-up words with espeak-ng: synthetic voices of many languages as packages of the corpus.

Robots, but their vowels and consonants are those of languages that free recordings lack, to be spoken,
sung or rapped. Their words mean nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from tunelab.errors import SettingsError
from tunelab.training.parallel import parallel_map

PROGRAM = "espeak-ng"
PREFIX = "synthetic-voices-"
LICENCE = "GPL-3+"
"""Of the program and its voices."""
LANGUAGES: Mapping[str, tuple[str, str]] = {
    "cs": ("b c d h j k l m n p r s t v z č š", "a e i o u ou á í"),
    "de": ("b d f g h k l m n p r s sch t w z", "a e i o u ei au ie ö ü"),
    "en": ("b d f g h k l m n p r s sh t th w", "a e i o u ee oo ai ou"),
    "es": ("b c d g j l ll m n ñ p r rr s t", "a e i o u ie ue"),
    "fi": ("h j k kk l ll m n p r s t tt v", "a aa e i o u ä ää ö uo"),
    "fr": ("b ch d f g j l m n p r s t v", "a e é i o u ou on an eau"),
    "hu": ("b cs d g gy h k l m n ny s sz t z", "a á e é i o ö ő u ü"),
    "id": ("b c d g h j k l m n ng p r s t", "a e i o u ai au"),
    "it": ("b c d f g gl l m n p r s t v", "a e i o u ia io"),
    "nl": ("b d g h k l m n p r s sch t v w", "a e i o aa ee ij oe ui"),
    "pl": ("b c cz d g h j k l ł m n p r s sz t w", "a e i o u y ą ę"),
    "pt": ("b c d f g j l lh m n nh p r s t v", "a e i o u ã ão ei"),
    "ro": ("b c d f g l m n p r s ș t ț v", "a ă e i o u â oa"),
    "sv": ("b d f g h k l m n p r s sk t v", "a e i o u å ä ö"),
    "sw": ("b ch d g h j k l m mb n nd p s t w", "a e i o u"),
    "tr": ("b c ç d g h k l m n p r s ş t y z", "a e ı i o ö u ü"),
}
"""For each language letters that a syllable may begin with, and its vowels."""
TIMBRES = ("m1", "f1", "m2", "f2", "m3", "f3", "m4", "f4", "m5", "f5", "m6", "f1", "m7", "f2", "m8", "f3")
"""The program's male and female variants."""
SPEAKERS = 4
"""Of each language: so many neighbours among :data:`TIMBRES`."""


def render_voices(out: Path, count: int) -> int:
    """Speak ``count`` sentences of each language below ``out``, some at once; those that are there are left alone.

    Returns:
        Sentences spoken now.

    Raises:
        SettingsError: espeak-ng is missing.
        CalledProcessError: it failed.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise SettingsError(f"synthetic voices need {PROGRAM}")
    spoken = 0
    for place, language in enumerate(LANGUAGES):
        folder = out / f"{PREFIX}{language}"
        about = folder / "usr" / "share" / "doc" / folder.name
        about.mkdir(parents=True, exist_ok=True)
        (about / "copyright").write_text(f"License: {LICENCE}\n")
        spoken += sum(parallel_map(partial(_speak, program, folder, place, language), range(count)))
    return spoken


def _speak(program: str, folder: Path, place: int, language: str, number: int) -> bool:
    """Speak one sentence, if it is not there; whether it was spoken now."""
    rng = np.random.default_rng([11, place, number])
    timbre = TIMBRES[(place + number % SPEAKERS) % len(TIMBRES)]
    text, pitch, speed = sentence(language, rng), int(rng.integers(25, 76)), int(rng.integers(120, 190))
    audio = folder / timbre / f"{number:04d}.wav"
    if audio.exists():
        return False
    audio.parent.mkdir(exist_ok=True)
    unfinished = audio.with_suffix(".part")
    voice = [f"-v{language}+{timbre}", f"-p{pitch}", f"-s{speed}", f"-w{unfinished}"]
    subprocess.run([program, *voice, "--", text], check=True, capture_output=True, timeout=60)  # noqa: S603
    unfinished.rename(audio)
    return True


def sentence(language: str, rng: np.random.Generator) -> str:
    """Eight to sixteen made-up words of one to four syllables; a comma after some."""
    onsets, vowels = (letters.split() for letters in LANGUAGES[language])
    words = []
    for _ in range(int(rng.integers(8, 17))):
        syllables = [str(rng.choice(onsets)) + str(rng.choice(vowels)) for _ in range(int(rng.integers(1, 5)))]
        words.append("".join(syllables) + ("," if rng.random() < 0.15 else ""))
    return " ".join(words).rstrip(",") + "."
