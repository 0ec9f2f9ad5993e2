"""Which tracks of a corpus are copies of each other, and which copy stays; no copy crosses the split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import soundfile as sf

from tunelab.training.fingerprints import Prints, Twins, find_twins, fingerprint_file
from tunelab.training.parallel import parallel_map

log = logging.getLogger(__name__)

_VERSION = 1
"""Of the fingerprints that are kept; another one makes all of them anew."""


class Track(Protocol):
    """What is read of a track: :class:`tunelab.training.corpus.Track`."""

    @property
    def path(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def kind(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def sha256(self) -> str: ...


AnyTrack = TypeVar("AnyTrack", bound=Track)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A track that is left out, and one that stays and holds the same recording.

    ``share`` of the shorter one is the same, where ``same_as`` begins ``offset_s`` after ``path``. Both are empty (NaN)
    for two that have no more in common than a third one.
    """

    path: str
    same_as: str
    share: float
    offset_s: float


def drop_duplicates(tracks: Sequence[AnyTrack], root: Path, cache: Path) -> tuple[list[AnyTrack], list[Dropped]]:
    """Keep one of all tracks that hold the same recording.

    Files of the same bytes are one, speech as well; music is compared by its sound. Of a group that has held-out
    tracks, one of those stays: what is trained on is never heard in the measurement. Among them the longest stays, then
    one that was not rendered, then the first path.

    Args:
        tracks: in any order.
        root: the folder that their paths are relative to.
        cache: where fingerprints are kept, by the file's SHA-256.

    Returns:
        What stays, in the given order, and what does not.
    """
    first_of: dict[str, int] = {}
    twins: list[Twins] = []
    for number, track in enumerate(tracks):
        first = first_of.setdefault(track.sha256, number)
        if first != number:
            twins.append(Twins(first, number, 1.0, 0.0))
    heard = [number for number in first_of.values() if tracks[number].kind == "music"]
    if heard:
        cache.mkdir(parents=True, exist_ok=True)
    prints = list(
        parallel_map(partial(_kept_fingerprint, root=root, cache=cache), [tracks[number] for number in heard])
    )
    twins += [Twins(heard[twin.first], heard[twin.second], twin.share, twin.offset_s) for twin in find_twins(prints)]
    return choose(tracks, twins)


def choose(tracks: Sequence[AnyTrack], twins: Sequence[Twins]) -> tuple[list[AnyTrack], list[Dropped]]:
    """Keep one track of each group that twins connect; see :func:`drop_duplicates`."""
    group = list(range(len(tracks)))

    def root_of(number: int) -> int:
        while group[number] != number:
            group[number] = group[group[number]]
            number = group[number]
        return number

    for twin in twins:
        group[root_of(twin.second)] = root_of(twin.first)
    best: dict[int, int] = {}
    for number, track in enumerate(tracks):
        place = root_of(number)
        if place not in best or _rank(track) < _rank(tracks[best[place]]):
            best[place] = number
    known = {frozenset((twin.first, twin.second)): twin for twin in twins}
    kept: list[AnyTrack] = []
    dropped: list[Dropped] = []
    for number, track in enumerate(tracks):
        stays = best[root_of(number)]
        if stays == number:
            kept.append(track)
            continue
        twin = known.get(frozenset((number, stays)), Twins(number, stays, np.nan, np.nan))
        offset = twin.offset_s if twin.first == number else 0.0 - twin.offset_s
        dropped.append(Dropped(track.path, tracks[stays].path, twin.share, offset))
    return kept, dropped


def _rank(track: Track) -> tuple[bool, float, bool, str]:
    """The smallest stays. Lengths in whole seconds: another coding may add some milliseconds."""
    return track.split != "heldout", -round(track.seconds), track.source in {"tracker", "score", "stems"}, track.path


def _kept_fingerprint(track: Track, root: Path, cache: Path) -> Prints:
    """The fingerprint from the cache, or made anew; empty for what cannot be read, which is logged."""
    place = cache / f"{track.sha256}-{_VERSION}.npy"
    if place.exists():
        kept: Prints = np.load(place)
        return kept
    try:
        made = fingerprint_file(root / track.path)
    except sf.LibsndfileError as error:
        log.warning("%s: no fingerprint: %s", track.path, error)
        return np.zeros(0, np.uint32)
    unfinished = place.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.save(file, made)
    unfinished.rename(place)
    return made
