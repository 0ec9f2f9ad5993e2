"""Random pieces as Standard MIDI Files: key, mode, tempo, metre and instruments are known because they were chosen.

Simple on purpose: a chord progression, a melody over it and one way to accompany. What matters is what free game music
has little of: strings, winds, brass, keyboards and plucked instruments alone or in ensembles, without a voice.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

TICKS = 480
"""Per quarter note."""
DRUMS = 9
"""The channel of percussion in General MIDI."""

PROGRESSIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3), (0, 1, 4, 0), (0, 2, 3, 4), (0, 5, 1, 4), (0, 3, 0, 4)),
    "minor": ((0, 3, 4, 0), (0, 5, 2, 6), (0, 6, 5, 4), (0, 3, 6, 2), (0, 5, 3, 4), (0, 1, 4, 0)),
}
"""Roots of chords as degrees of the scale."""
STEPS = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
"""Semitones of a scale above its tonic."""

ACOUSTIC: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...] = (
    # Programs (General MIDI, from 0) for melody, accompaniment and bass.
    ((0,), (0,), (0,)),  # piano
    ((40, 41), (48, 49, 41), (42, 43)),  # strings
    ((73, 68, 71, 70), (48, 71, 68), (70, 43)),  # winds
    ((56, 60, 57), (60, 61, 57), (58, 57)),  # brass
    ((6,), (6,), (6,)),  # harpsichord
    ((19, 20), (19,), (19,)),  # church organ
    ((24, 25), (24, 25), (32, 24)),  # guitar
    ((40, 73, 68, 42), (0, 46, 6), (42, 0)),  # a soloist with piano, harp or harpsichord
    ((66, 65, 56, 71), (0, 26), (32,)),  # jazz
    ((22, 110, 21, 105), (24, 105, 21), (32,)),  # folk
    ((11, 9, 12, 108), (46, 0, 12), (43, 0)),  # mallets
)
ELECTRONIC: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...] = (
    ((80, 81, 87), (81, 90, 62), (38, 39)),
    ((82, 86, 84), (50, 51, 88, 89, 95), (38, 39)),
    ((98, 96, 99), (89, 92, 94, 95), (39, 38)),
    ((81, 5, 4), (63, 90, 4), (38, 36)),
    ((30, 29), (30, 29), (33, 34)),  # overdriven guitars
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece and what is known of it.

    Attributes:
        midi: a Standard MIDI File of format 1.
        tempo: quarter notes per minute.
        metre: quarter notes per bar.
        tonic: pitch class, 0 is C.
        mode: ``major`` or ``minor``.
        programs: General MIDI programs of those that play: melody, accompaniment, bass.
        drums: whether a drum kit plays.
    """

    midi: bytes
    tempo: int
    metre: int
    tonic: int
    mode: str
    programs: tuple[int, ...]
    drums: bool


def compose(rng: np.random.Generator, *, electronic: bool, seconds: float) -> Piece:
    """Make up one piece.

    Args:
        rng: decides everything.
        electronic: synthesizers or overdriven guitars, mostly with drums, or acoustic instruments, seldom with them.
        seconds: length, rounded up to whole bars.
    """
    mode = str(rng.choice(["major", "minor"]))
    tempo, metre, tonic = int(rng.integers(54, 172)), int(rng.choice([3, 4, 4, 4])), int(rng.integers(12))
    families = ELECTRONIC if electronic else ACOUSTIC
    melody, chords, bass = (int(rng.choice(choices)) for choices in families[int(rng.integers(len(families)))])
    drums = bool(rng.random() < (0.85 if electronic else 0.12))
    bars = int(np.ceil(seconds * tempo / 60 / metre))
    writer = _Writer(rng, STEPS[mode], tonic, metre)
    style = int(rng.integers(5))
    has_bass, has_melody = rng.random() < 0.8, rng.random() < 0.9
    progression = PROGRESSIONS[mode][int(rng.integers(len(PROGRESSIONS[mode])))]
    density = float(rng.uniform(0.2, 0.8))
    phrase: list[tuple[float, float, int]] = []
    for bar in range(bars):
        if bar % 16 == 8:
            progression = PROGRESSIONS[mode][int(rng.integers(len(PROGRESSIONS[mode])))]
        root = progression[bar % len(progression)]
        writer.accompany(bar, root, style)
        if has_bass:
            writer.bass(bar, root, style)
        if has_melody:
            if bar % 4 == 0 or not phrase or rng.random() < 0.4:
                phrase = writer.phrase(density)
            writer.melody(bar, root, phrase)
        if drums:
            writer.drum(bar, density)
    programs = (melody,) * has_melody + (chords,) + (bass,) * has_bass
    return Piece(writer.file(tempo, (melody, chords, bass)), tempo, metre, tonic, mode, programs, drums)


class _Writer:
    """Collects notes: (tick, channel, pitch, velocity, ticks long)."""

    def __init__(self, rng: np.random.Generator, steps: tuple[int, ...], tonic: int, metre: int) -> None:
        self._rng, self._steps, self._tonic, self._metre = rng, steps, tonic, metre
        self._notes: list[tuple[int, int, int, int, int]] = []
        self._degree = int(rng.integers(0, 8))
        self._loudness = int(rng.integers(55, 105))
        self._octave = int(rng.integers(4, 6))
        self._legato = float(rng.uniform(0.5, 1.05))

    def _pitch(self, degree: int, octave: int) -> int:
        return 12 * (octave + 1) + self._tonic + 12 * (degree // 7) + self._steps[degree % 7]

    def _add(self, channel: int, bar: int, beat: float, beats: float, pitch: int, softer: int = 0) -> None:
        # Nobody plays on the tick.
        start = int(((bar * self._metre) + beat) * TICKS + self._rng.normal(0, 6))
        velocity = int(np.clip(self._loudness - softer + self._rng.normal(0, 7), 20, 127))
        self._notes.append((max(0, start), channel, int(np.clip(pitch, 21, 108)), velocity, int(beats * TICKS)))

    def accompany(self, bar: int, root: int, style: int) -> None:
        chord, metre = [root, root + 2, root + 4], self._metre
        match style:
            case 0:  # held
                for degree in chord:
                    self._add(1, bar, 0, metre, self._pitch(degree, 3), 12)
            case 1:  # on each beat
                for beat in range(metre):
                    for degree in chord:
                        self._add(1, bar, beat, 0.8 * self._legato, self._pitch(degree, 3), 14)
            case 2:  # broken, low high middle high
                for half in range(2 * metre):
                    self._add(1, bar, half / 2, 0.5, self._pitch(chord[(0, 2, 1, 2)[half % 4]], 3), 12)
            case 3:  # arpeggio over two octaves
                ladder = [*chord, root + 7, root + 9, root + 7, root + 4, root + 2]
                for half in range(2 * metre):
                    self._add(1, bar, half / 2, 0.9, self._pitch(ladder[half % len(ladder)], 3), 14)
            case _:  # after the beat
                for beat in range(1, metre):
                    for degree in chord:
                        self._add(1, bar, beat, 0.4, self._pitch(degree, 3), 14)

    def bass(self, bar: int, root: int, style: int) -> None:
        if style in (0, 2, 3):
            self._add(2, bar, 0, self._metre * 0.95, self._pitch(root, 2), 6)
            return
        for beat in range(self._metre):
            self._add(2, bar, beat, 0.8, self._pitch((root, root + 4, root + 2, root + 4)[beat % 4], 2), 6)

    def phrase(self, density: float) -> list[tuple[float, float, int]]:
        """One bar of melody: (beat, beats long, steps to go)."""
        rng, beat, notes = self._rng, 0.0, []
        while beat < self._metre:
            lengths = [0.5, 1.0, 2.0] if rng.random() > density else [0.25, 0.5, 0.5]
            length = float(min(rng.choice(lengths), self._metre - beat))
            if rng.random() < 0.9:
                notes.append((beat, length, int(rng.integers(-2, 3))))
            beat += length
        return notes

    def melody(self, bar: int, root: int, phrase: list[tuple[float, float, int]]) -> None:
        for beat, length, move in phrase:
            self._degree = int(np.clip(self._degree + move, -3, 11))
            degree = self._degree
            if beat == 0:  # a tone of the chord on the first beat
                degree += min(((root + third - degree + 3) % 7 - 3 for third in (0, 2, 4)), key=abs)
            self._add(0, bar, beat, length * self._legato, self._pitch(degree, self._octave))

    def drum(self, bar: int, density: float) -> None:
        for beat in range(self._metre):
            self._add(DRUMS, bar, beat, 0.2, 36 if beat % 2 == 0 or density > 0.6 else 38)
            for half in (0.0, 0.5):
                self._add(DRUMS, bar, beat + half, 0.1, 42, 20)

    def file(self, tempo: int, programs: tuple[int, int, int]) -> bytes:
        events: list[tuple[int, int, bytes]] = [(0, 0, b"\xff\x51\x03" + (60_000_000 // tempo).to_bytes(3, "big"))]
        events += [(0, 1, bytes([0xC0 | channel, program])) for channel, program in enumerate(programs)]
        for start, channel, pitch, velocity, length in self._notes:
            events.append((start, 3, bytes([0x90 | channel, pitch, velocity])))
            # Ends sort before beginnings, or a repeated note would be cut off at once.
            events.append((start + max(length, 30), 2, bytes([0x80 | channel, pitch, 0])))
        track, now = bytearray(), 0
        for tick, _, message in sorted(events):
            track += _variable(tick - now) + message
            now = tick
        track += b"\x00\xff\x2f\x00"
        header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)
        return header + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _variable(number: int) -> bytes:
    """A variable-length quantity: seven bits a byte, all but the last with the top bit set."""
    out = [number & 0x7F]
    while number := number >> 7:
        out.append(0x80 | number & 0x7F)
    return bytes(reversed(out))
