"""Training, validation and test: every class on every side, and what belongs together on one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunelab.errors import ClassifierError

SIDES = ("train", "validation", "test")
SHARES = (0.65, 0.15, 0.2)
_TRIES = 20
"""Orders in which the tracks are dealt out until every class is everywhere."""

Targets = npt.NDArray[np.bool_]
Sides = npt.NDArray[np.int8]
"""For each track the place of its side in :data:`SIDES`."""


def split(classes: tuple[str, ...], has: Targets, groups: tuple[str, ...] | None = None, *, seed: int = 0) -> Sides:
    """Deal tracks out so that each side has its share of every class, and at least one track of it.

    Iterative stratification (Sechidis et al., ECML 2011) over groups of tracks: those with the rarest class come
    first, and each goes where that class is missing most.

    Args:
        classes: names.
        has: which track has which, shape ``(n, classes)``.
        groups: of each track; tracks of one stay together. ``None``: every track for itself.
        seed: of the order; the same gives the same sides.

    Raises:
        ClassifierError: a class comes from fewer than three groups, or there is no such split.
    """
    unit = np.arange(len(has)) if groups is None else np.unique(groups, return_inverse=True)[1]
    counts = np.zeros((int(unit.max()) + 1, len(classes)))
    np.add.at(counts, unit, has)
    sources = (counts > 0).sum(axis=0)
    for name, number in zip(classes, sources, strict=True):
        if number < len(SIDES):
            raise ClassifierError(f"class {name!r} comes from {number} group(s); training, validation and test need 3")
    sizes = np.bincount(unit).astype(np.float64)
    for attempt in range(_TRIES):
        side = _deal(counts, sizes, np.random.default_rng([seed, attempt]))
        if all((counts[side == place] > 0).any(axis=0).all() for place in range(len(SIDES))):
            return side[unit]
    raise ClassifierError("no split has every class on every side: some are on too few tracks, or in too few groups")


def _deal(counts: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], rng: np.random.Generator) -> Sides:
    """One side for each unit. ``counts``: of each class, shape ``(units, classes)``; ``sizes``: tracks of each."""
    total = counts.sum(axis=0)
    wanted = np.outer(SHARES, total)
    room = np.array(SHARES) * sizes.sum()
    side = np.full(len(counts), -1, np.int8)
    order = rng.permutation(len(counts))
    have = np.zeros((len(SIDES), counts.shape[1]))

    def place(unit: int, missing: npt.NDArray[np.float64], sides: npt.NDArray[np.intp]) -> None:
        best = sides[missing[sides] >= missing[sides].max() - 1e-9]
        chosen = best[np.argmax(room[best] + 1e-6 * rng.random(len(best)))]
        side[unit] = chosen
        have[chosen] += counts[unit]
        room[chosen] -= sizes[unit]

    everywhere = np.arange(len(SIDES))
    while True:
        remaining = ((side < 0)[:, np.newaxis] & (counts > 0)).sum(axis=0)
        if not remaining.any():
            break
        rarest = int(np.where(remaining > 0, remaining, np.iinfo(np.int64).max).argmin())
        units = order[(side[order] < 0) & (counts[order, rarest] > 0)]
        for done, unit in enumerate(units):
            without = np.flatnonzero(have[:, rarest] == 0)
            # The last ones go to the sides that have none, however much is missing elsewhere.
            sides = without if len(units) - done <= len(without) else everywhere
            place(int(unit), wanted[:, rarest] - have[:, rarest], sides)
    for unit in order[side[order] < 0]:  # tracks without any label
        place(int(unit), room, everywhere)
    return side
