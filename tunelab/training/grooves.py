"""Accompaniments by MMA (Musical MIDI Accompaniment), rendered with sound fonts: bands in hundreds of grooves.

Drums, bass, chords and fills of dances, rock, jazz, blues and folk over made-up chords. Their tempo, metre, key and
instruments are known. MMA is a program of its own (Debian's ``mma``).
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tunelab.errors import SettingsError
from tunelab.training.compose import DRUMS, PROGRESSIONS, STEPS
from tunelab.training.parallel import parallel_map
from tunelab.training.scores import ACOUSTIC, PREFIX, SECONDS, SOUND_FONTS, describe_package, synthesise

LIBRARY = Path("/usr/share/mma/lib/stdlib")
LICENCE = "GPL-2+"
"""Of MMA and its grooves."""
MIXED = f"{PREFIX}mixed"
"""Packages of bands with electric or synthetic instruments begin with this, those without with that of
:data:`tunelab.training.scores.ACOUSTIC`."""
PARTS = 4
"""Packages of each of the two; grooves of one file are in the same."""
ACOUSTIC_PROGRAMS = frozenset(
    (*range(4), 6, *range(8, 16), *range(19, 26), 32, *range(40, 50), *range(56, 80), *range(104, 112))
)
"""General MIDI programs (from 0) of instruments that sound without electricity. Choirs are in none of the lists that
know of no voice: they are not acoustic here either."""
NOTES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
CHORDS = {"major": ("", "m", "m", "", "", "m", "dim"), "minor": ("m", "dim", "", "m", "m", "", "")}
"""What is built on each degree of a scale."""
TEMPI = {3: (80, 190), 4: (70, 170)}
"""Quarter notes a minute, by the beats of a bar."""
_BETWEEN = re.compile(r"(?:Intro|End|Fill)\w*$")
"""Grooves for one bar of a piece, not for all of it."""
_DEFINED = re.compile(r"^\s*DefGroove\s+(\w+)", re.IGNORECASE | re.MULTILINE)
_METRE = re.compile(r"^\s*Time\s+(\d+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Groove:
    """A groove of MMA's library, the stem of the file that defines it, and the beats of its bars."""

    name: str
    file: str
    metre: int


@dataclass(frozen=True, slots=True)
class Chart:
    """What MMA plays: ``text`` is its input; ``tonic`` is a pitch class, 0 is C."""

    text: str
    tempo: int
    tonic: int
    mode: str


def find_grooves(library: Path = LIBRARY) -> list[Groove]:
    """Grooves in three or four beats a bar, in order of file and definition; no intros, fills and ends."""
    return list(_grooves(library))


def _grooves(library: Path) -> Iterator[Groove]:
    for path in sorted(library.glob("*.mma")):
        text = path.read_text(encoding="latin-1")
        metres = {int(metre) for metre in _METRE.findall(text)} or {4}
        if len(metres) == 1 and (metre := metres.pop()) in TEMPI:
            names = dict.fromkeys(_DEFINED.findall(text))
            yield from (Groove(name, path.stem, metre) for name in names if not _BETWEEN.search(name))


def write_chart(groove: Groove, rng: np.random.Generator, seconds: float) -> Chart:
    """Make up chords for a groove, a new progression every eight bars.

    Args:
        groove: what plays.
        rng: decides tempo, key, chords and sevenths.
        seconds: length, rounded up to whole bars.
    """
    tempo = int(rng.integers(*TEMPI[groove.metre]))
    mode, tonic = str(rng.choice(["major", "minor"])), int(rng.integers(12))
    bars = int(np.ceil(seconds * tempo / 60 / groove.metre))
    sevenths, chords, progression = rng.random() < 0.5, [], PROGRESSIONS[mode][0]
    for bar in range(bars):
        if bar % 8 == 0:
            progression = PROGRESSIONS[mode][int(rng.integers(len(PROGRESSIONS[mode])))]
        degree = progression[bar % len(progression)]
        root = NOTES[(tonic + STEPS[mode][degree]) % 12]
        kind = CHORDS[mode][degree]
        chords.append(root + kind + ("7" if sevenths and kind != "dim" and degree != 0 else ""))
    # Its own dice are thrown from a number of ours: the same chart is played the same.
    head = [f"RndSeed {int(rng.integers(1_000_000))}", f"Tempo {tempo}"]
    head += [f"Use {LIBRARY.name}/{groove.file}", f"Groove {groove.name}"]
    lines = [*head, *(f"{number} {chord}" for number, chord in enumerate(chords, 1))]
    return Chart("\n".join(lines) + "\n", tempo, tonic, mode)


def instruments_of(midi: bytes) -> tuple[tuple[int, ...], bool]:
    """General MIDI programs of a Standard MIDI File, those with the most notes first, and whether drums play."""
    import mido

    programs: dict[int, int] = {}
    notes: Counter[int] = Counter()
    drums = False
    for message in mido.merge_tracks(mido.MidiFile(file=io.BytesIO(midi)).tracks):
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type == "note_on" and message.velocity:
            drums |= message.channel == DRUMS
            if message.channel != DRUMS:
                notes[programs.get(message.channel, 0)] += 1
    return tuple(program for program, _ in notes.most_common()), drums


def package_of(groove: Groove, programs: tuple[int, ...]) -> str:
    """The package that an accompaniment goes into; ``programs`` are General MIDI's, from 0."""
    kind = ACOUSTIC if ACOUSTIC_PROGRAMS.issuperset(programs) else MIXED
    return f"{kind}-grooves-{zlib.crc32(groove.file.encode()) % PARTS}"


def render_grooves(out: Path, count: int, fonts: list[Path], library: Path = LIBRARY) -> int:
    """Render ``count`` accompaniments into packages below ``out``, some at once; those that are there are left alone.

    Each package gets ``pieces.csv``, as in :func:`tunelab.training.scores.render_scores`.

    Returns:
        Accompaniments rendered now.

    Raises:
        SettingsError: mma, fluidsynth, or every sound font, is missing.
        CalledProcessError: fluidsynth failed.
    """
    player, synthesizer, grooves = shutil.which("mma"), shutil.which("fluidsynth"), find_grooves(library)
    if player is None or synthesizer is None or not fonts or not grooves:
        raise SettingsError("accompaniments need mma, fluidsynth and a sound font, such as fluid-soundfont-gm")
    rows: dict[str, list[dict[str, Any]]] = {}
    made = 0
    render = partial(_render_groove, out, player=player, synthesizer=synthesizer, fonts=fonts, grooves=grooves)
    for rendered in parallel_map(render, range(count)):
        if rendered is not None:
            package, row, new = rendered
            rows.setdefault(package, []).append(row)
            made += new
    licences = {SOUND_FONTS.get(font.name, "unknown") for font in fonts} | {LICENCE}
    for package, pieces in rows.items():
        describe_package(out / package, pieces, licences)
    return made


def _render_groove(
    out: Path, number: int, player: str, synthesizer: str, fonts: list[Path], grooves: list[Groove]
) -> tuple[str, dict[str, Any], bool] | None:
    """Make one accompaniment, if it is not there: its package, what is known of it, and whether it was made now.

    Nothing for drums alone, or a groove that MMA itself cannot play.
    """
    rng = np.random.default_rng([7, number])
    groove = grooves[int(rng.integers(len(grooves)))]
    chart, font = write_chart(groove, rng, SECONDS), fonts[int(rng.integers(len(fonts)))]
    midi = _play(player, chart, out / f".groove-{number:04d}")
    programs, drums = instruments_of(midi) if midi else ((), False)
    if not programs:
        return None
    package = package_of(groove, programs)
    audio = out / package / f"{number:04d}.flac"
    audio.parent.mkdir(parents=True, exist_ok=True)
    facts = {"tempo": chart.tempo, "metre": groove.metre, "tonic": chart.tonic, "mode": chart.mode}
    row = {"file": audio.name, "sound_font": font.name, "groove": f"{groove.file}/{groove.name}", **facts}
    if new := not audio.exists():
        synthesise(synthesizer, midi, font, audio, rng)
    return package, row | {"programs": programs, "drums": drums}, new


def _play(player: str, chart: Chart, scratch: Path) -> bytes:
    """The Standard MIDI File that MMA makes of a chart; nothing where it refuses."""
    text, midi = scratch.with_suffix(".mma"), scratch.with_suffix(".mid")
    try:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(chart.text)
        command = [player, str(text), "-f", str(midi)]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)  # noqa: S603
        return midi.read_bytes() if done.returncode == 0 and midi.exists() else b""
    finally:
        text.unlink(missing_ok=True)
        midi.unlink(missing_ok=True)
