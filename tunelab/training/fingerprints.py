"""Acoustic fingerprints of whole tracks, and which tracks hold the same recording.

A fingerprint is a 32-bit number every 64 ms that tells how the differences between 33 neighbouring bands changed
within the last quarter of a second (after Haitsma and Kalker, ISMIR 2002). Level, coding, sampling rate and a cut
beginning leave most of its bits as they are; another tempo or pitch does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from tunelab.types import FloatArray

Prints = npt.NDArray[np.uint32]
"""Shape ``(frames,)``; 0 where nothing is heard, or nothing changes."""

RATE = 8000
WINDOW, HOP = 4096, 512
FRAME_S = HOP / RATE
LAG = 4
"""Frames over which changes are measured."""
BANDS = 33
LOWEST_HZ, HIGHEST_HZ = 200.0, 3000.0
BAND_FLOOR = 1e-4
"""Share of a frame's loudest band below which a band is taken for empty."""
SILENCE = 1e-7
"""Share of the loudest frame's energy below which a frame is silent."""
LEAST_CHANGE = 0.1
"""Mean change of the bands, in nepers, below which bits are noise: held chords, plain tones."""

BLOCK = 125
"""Frames that are compared at once: 8 s."""
SAME_BITS = 0.68
"""Share of equal bits in a block from which on it is the same recording; half of them are equal by chance."""
TWIN_SHARE = 0.3
"""Share of the shorter track that must be the same; other versions of a piece are often built from its passages."""
LEAST_SAME_S = 8.0
_REACH = 16
"""How far apart two equal numbers may lie, in the list of all that are sorted, to be paired."""
_LEAST_VOTES = 3
"""Equal numbers at one offset that make it worth comparing."""
_MOST_OFFSETS = 8


@dataclass(frozen=True, slots=True)
class Twins:
    """Two tracks, by their numbers, that share a recording.

    ``share`` of the shorter one is the same as in the other, where ``second`` begins ``offset_s`` after ``first``.
    """

    first: int
    second: int
    share: float
    offset_s: float


def fingerprint_file(path: Path) -> Prints:
    """Fingerprint of an audio file, mixed to mono.

    Raises:
        soundfile.LibsndfileError: it cannot be read.
    """
    parts: list[FloatArray] = []
    with sf.SoundFile(path) as file:
        resampler = soxr.ResampleStream(file.samplerate, RATE, 1, dtype="float32", quality="LQ")
        size = 10 * file.samplerate
        # In blocks, so that an hour of stereo does not fill the memory.
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            parts.append(resampler.resample_chunk(block.mean(axis=1)))
        parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return fingerprint(np.concatenate(parts))


def fingerprint(samples: FloatArray) -> Prints:
    """Fingerprint of mono samples at :data:`RATE`, shape ``(n,)``; empty below about a second."""
    count = 1 + (len(samples) - WINDOW) // HOP
    if count <= LAG:
        return np.zeros(0, np.uint32)
    edges = np.round(np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1) * WINDOW / RATE).astype(int)
    window = np.hanning(WINDOW).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    energies = np.empty((count, BANDS))
    for start in range(0, count, 512):
        power = np.square(np.abs(np.fft.rfft(frames[start : start + 512] * window, axis=1)))
        energies[start : start + 512] = np.add.reduceat(power, edges, axis=1)[:, :-1]
    # The floor is that of both frames, so that neither level nor what is cut off elsewhere counts.
    floor = BAND_FLOOR * np.maximum(energies[LAG:], energies[:-LAG]).max(axis=1, keepdims=True) + 1e-12
    slopes = [np.diff(np.log(part + floor), axis=1) for part in (energies[LAG:], energies[:-LAG])]
    change = slopes[0] - slopes[1]
    bits = np.packbits(change > 0, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)
    total = energies.sum(axis=1)
    heard = np.minimum(total[LAG:], total[:-LAG]) > SILENCE * total.max()
    heard &= np.abs(change).mean(axis=1) > LEAST_CHANGE
    result: Prints = np.where(heard, np.maximum(bits, 1), 0).astype(np.uint32)
    return result


def find_twins(prints: Sequence[Prints]) -> list[Twins]:
    """All pairs of tracks of which at least :data:`TWIN_SHARE` of the shorter one is the same recording.

    Numbers that occur in both tell which pairs, and at which offsets, are worth comparing bit by bit.
    """
    return [
        best
        for (first, second), offsets in sorted(_candidates(prints).items())
        if (best := _compare(first, second, prints[first], prints[second], offsets)) is not None
    ]


def _candidates(prints: Sequence[Prints]) -> dict[tuple[int, int], list[int]]:
    """Pairs of tracks -> the likeliest offsets (frame in the first - frame in the second)."""
    values = np.concatenate([*prints, np.zeros(0, np.uint32)])
    tracks = np.repeat(np.arange(len(prints)), [len(part) for part in prints])
    frames = np.concatenate([np.arange(len(part)) for part in prints] or [np.zeros(0, int)])
    kept = values != 0
    values, tracks, frames = values[kept], tracks[kept], frames[kept]
    # Within equal numbers the order is one that mixes tracks and repeats itself.
    order = np.lexsort((frames * 7919 % 10_007, values))
    values, tracks, frames = values[order], tracks[order], frames[order]
    span = 1 << 21
    keys = [np.zeros(0, np.int64)]
    for step in range(1, _REACH + 1):
        equal = (values[step:] == values[:-step]) & (tracks[step:] != tracks[:-step])
        one, other = np.flatnonzero(equal) + step, np.flatnonzero(equal)
        swapped = tracks[one] > tracks[other]
        one, other = np.where(swapped, other, one), np.where(swapped, one, other)
        pair = tracks[one].astype(np.int64) * len(prints) + tracks[other]
        keys.append(pair * span + (frames[one] - frames[other] + span // 2))
    found, votes = np.unique(np.concatenate(keys), return_counts=True)
    # A copy that does not begin on a frame has its votes on two neighbouring offsets.
    near = np.flatnonzero(np.diff(found) == 1)
    summed = votes.copy()
    summed[near] += votes[near + 1]
    summed[near + 1] += votes[near]
    best: dict[tuple[int, int], list[int]] = {}
    chosen = np.flatnonzero(summed >= _LEAST_VOTES)
    for place in chosen[np.argsort(-summed[chosen], kind="stable")]:
        pair, offset = divmod(int(found[place]), span)
        offsets = best.setdefault(divmod(pair, len(prints)), [])
        if len(offsets) < _MOST_OFFSETS:
            offsets.append(offset - span // 2)
    return best


def _compare(first: int, second: int, a: Prints, b: Prints, offsets: list[int]) -> Twins | None:
    shorter = min(int(np.count_nonzero(a)), int(np.count_nonzero(b)))
    share, offset = max((_same_frames(a, b, offset) / shorter, offset) for offset in offsets)
    if share < TWIN_SHARE or share * shorter * FRAME_S < LEAST_SAME_S:
        return None
    return Twins(first, second, round(min(share, 1.0), 3), round(offset * FRAME_S, 2))


def _same_frames(a: Prints, b: Prints, offset: int) -> int:
    """Frames, of those heard in both, within blocks of the same recording when ``b`` begins ``offset`` after ``a``."""
    a, b = a[max(offset, 0) :], b[max(-offset, 0) :]
    size = min(len(a), len(b))
    a, b = a[:size], b[:size]
    heard = (a != 0) & (b != 0)
    differing = np.where(heard, np.bitwise_count(a ^ b), 0)
    starts = np.arange(0, size, BLOCK)
    if not size:
        return 0
    clear, wrong = np.add.reduceat(heard.astype(int), starts), np.add.reduceat(differing.astype(int), starts)
    return int(clear[(wrong < (1 - SAME_BITS) * 32 * clear) & (clear >= BLOCK // 8)].sum())
