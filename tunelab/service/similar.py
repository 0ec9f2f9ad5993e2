"""Nearest tracks among the stored results of one account.

Up to :data:`EXACT` matching tracks are compared one by one. Of more, the index over the embeddings gives the nearest.
It knows no accounts, revisions or score ranges, so it is walked until enough of its tracks match; where it gives up
before that, all are compared after all. So an answer has as many tracks as were asked for, or all that match.

What has no direction, a vector of zeros or the mean of seeds that cancel out, has the similarity 0 to everything.
PostgreSQL says NaN then, which would come after every distance. Such vectors are not in the index.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Row, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from tunelab.service.database import Database
from tunelab.service.errors import NotFound
from tunelab.service.tables import Track
from tunelab.similarity.ranges import Range
from tunelab.similarity.vectors import mean_direction
from tunelab.types import HEADS, FloatArray

MAX_TRACKS = 100
MAX_SEEDS = 10
EXACT = 10_000
"""So many matching tracks are compared one by one, in about the time in which the index would find some of them."""
POOL = 500
"""With seeds and a target, and more tracks than that: so many of the nearest by embedding are ordered by both."""

_SPARE = 30
"""Candidates beyond those wanted: the index gives them only roughly in order."""
_PLAN = {
    # On from the first candidates, for as long as too few of them match.
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": "100",
    "hnsw.max_scan_tuples": "20000",
    # A plan made once for all accounts would suit few of them, and compiling one takes longer than running it.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: seeds, a target, or both.

    Attributes:
        ids: content ids of the seeds, at most :data:`MAX_SEEDS`.
        target: head -> score in 0..1 to come near to.
        filters: head -> range that a track must be in.
        k: tracks wanted, 1 to :data:`MAX_TRACKS`.
    """

    ids: tuple[str, ...] = ()
    target: Mapping[str, float] = field(default_factory=dict)
    filters: Mapping[str, Range] = field(default_factory=dict)
    k: int = 10


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A track that was found.

    Attributes:
        similarity: cosine of its embedding and the seeds' direction, -1..1; None without seeds.
        off_target: mean absolute difference to the target scores, 0..1; None without a target.
        scores: head -> value in 0..1, not rounded.
    """

    content_id: str
    similarity: float | None
    off_target: float | None
    scores: Mapping[str, float]
    duration_s: float

    @property
    def distance(self) -> float:
        """What the answer is ordered by: cosine distance (0..2) plus difference to the target, of what was asked."""
        return (0.0 if self.similarity is None else 1 - self.similarity) + (self.off_target or 0.0)


class SimilarTracks:
    """Searches; each is one transaction that only reads.

    Args:
        database: where the tracks are.
        exact: up to so many matching tracks are compared one by one; by default :data:`EXACT`.
    """

    def __init__(self, database: Database, *, exact: int | None = None) -> None:
        self._database = database
        self._exact = EXACT if exact is None else exact

    async def find(self, account: uuid.UUID, model: str, revision: str, wanted: Wanted) -> list[Neighbour]:
        """The nearest tracks of the account, without the seeds; best first, ties by content id.

        With seeds, near is a high cosine to the mean of their unit vectors. With a target, it is a small mean absolute
        difference to the target's scores. With both, it is a small sum of cosine distance and that difference; where
        more than :data:`EXACT` tracks match, among the :data:`POOL` nearest to the seeds.

        Raises:
            NotFound: the account has no result of this revision of the model for one of the seeds.
            DatabaseUnavailable: the database cannot be reached.
        """
        same = (Track.account_id == account, Track.model == model, Track.revision == revision)
        async with self._database.transaction() as session:
            await session.execute(select(*(func.set_config(name, value, True) for name, value in _PLAN.items())))
            direction = mean_direction(await _embeddings(session, same, wanted.ids)) if wanted.ids else None
            matching = [*same, *_matching(wanted.filters)]
            rows = None
            if direction is not None and await _more_than(session, self._exact, matching):
                rows = await _through_index(session, matching, direction, wanted)
            if rows is None:
                rows = await _all(session, matching, direction, wanted)
        found = [_neighbour(row, wanted.target) for row in rows]
        return sorted(found, key=lambda track: (track.distance, track.content_id))[: wanted.k]


_COLUMNS = (Track.content_id, Track.duration_s, *(getattr(Track, head) for head in HEADS))


async def _embeddings(session: AsyncSession, same: Sequence[ColumnElement[bool]], ids: Sequence[str]) -> FloatArray:
    query = select(Track.content_id, Track.embedding_f32).where(*same, Track.content_id.in_(ids))
    found = {row.content_id: row.embedding_f32 for row in await session.execute(query)}
    for content_id in ids:
        if content_id not in found:
            raise NotFound(f"this account has no result of the current model with the id {content_id}")
    return np.stack([np.frombuffer(value, "<f4") for value in found.values()])


async def _through_index(
    session: AsyncSession, matching: Sequence[ColumnElement[bool]], direction: FloatArray, wanted: Wanted
) -> Sequence[Any] | None:
    """Rows that have the nearest ones among them, in any order; None: the index does not know them."""
    if not direction.any():  # seeds that cancel each other out: the index has no answer
        return None
    count = POOL if wanted.target else wanted.k
    distance = Track.embedding.cosine_distance(direction.tolist())
    query = select(*_COLUMNS, distance.label("distance")).where(*matching, Track.content_id.not_in(wanted.ids))
    rows = (await session.execute(query.order_by(distance).limit(count + _SPARE))).all()
    # From the distance 1 on, vectors of zeros may be nearer than what the index has.
    near = [row for row in rows if row.distance < 1]
    return near if len(near) >= count else None


async def _all(
    session: AsyncSession, matching: Sequence[ColumnElement[bool]], direction: FloatArray | None, wanted: Wanted
) -> Sequence[Any]:
    """The nearest rows after a look at every one."""
    far: ColumnElement[Any] = literal(0.0)
    distance: ColumnElement[Any] = literal(None)
    if direction is not None:
        # NaN equals NaN in PostgreSQL.
        known = func.nullif(Track.embedding.cosine_distance(direction.tolist()), math.nan)
        distance = func.coalesce(known, 1.0)
        far = far + distance  # an expression that the index does not know
    if wanted.target:
        far = far + _off_target(wanted.target)
    query = select(*_COLUMNS, distance.label("distance")).where(*matching, Track.content_id.not_in(wanted.ids))
    return (await session.execute(query.order_by(far, Track.content_id).limit(wanted.k))).all()


async def _more_than(session: AsyncSession, count: int, matching: Sequence[ColumnElement[bool]]) -> bool:
    some = select(literal(1)).select_from(Track).where(*matching).limit(count + 1).subquery()
    return bool(await session.scalar(select(func.count() > count).select_from(some)))


def _matching(filters: Mapping[str, Range]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for head, wanted in filters.items():
        lower, upper = wanted.bounds
        column = getattr(Track, head)
        # Plain comparisons, so that the planner knows from its statistics how many tracks match.
        found += [column >= lower] if math.isfinite(lower) else [column.is_not(None)]
        found += [column < upper] if math.isfinite(upper) else []
    return found


def _off_target(target: Mapping[str, float]) -> ColumnElement[Any]:
    # As in _neighbour(): a score that the model does not have is as far away as can be.
    differences = (func.coalesce(func.abs(getattr(Track, head) - value), 1.0) for head, value in target.items())
    total: ColumnElement[Any] = sum(differences, literal(0.0))
    return total / float(len(target))


def _neighbour(row: Row[Any], target: Mapping[str, float]) -> Neighbour:
    values = row._asdict()
    scores = {head: values[head] for head in HEADS if values[head] is not None}
    similarity = None if row.distance is None else 1 - row.distance
    off_target = None
    if target:
        off_target = sum(abs(scores[head] - value) if head in scores else 1.0 for head, value in target.items())
        off_target /= len(target)
    return Neighbour(row.content_id, similarity, off_target, scores, row.duration_s)
