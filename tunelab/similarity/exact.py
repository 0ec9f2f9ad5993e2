"""Exact nearest neighbours in what a batch job wrote, in one pass over its rows and the memory of two batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunelab.similarity.ranges import Range
from tunelab.similarity.vectors import cosines, embeddings
from tunelab.types import HEADS, FloatArray

COLUMNS = ("path", "id", "revision", *HEADS, "embedding", "duration_s")
"""What :func:`nearest` needs of :data:`tunelab.catalog.schema.SCHEMA`."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A track that was found.

    Attributes:
        path: as the source of the batch job names it.
        content_id: SHA-256 of the bytes.
        similarity: cosine of its embedding and the direction looked in, -1..1.
        scores: head -> value in 0..1, not rounded.
    """

    path: str
    content_id: str
    similarity: float
    scores: Mapping[str, float]
    duration_s: float


def nearest(
    batches: Iterable[pa.RecordBatch],
    direction: FloatArray,
    k: int,
    *,
    revision: str,
    filters: Mapping[str, Range] | None = None,
    without: Collection[str] = (),
) -> list[Neighbour]:
    """The ``k`` tracks whose embeddings have the highest cosine to ``direction``, best first; each content once.

    Args:
        batches: rows with the columns :data:`COLUMNS`.
        direction: float32, shape ``(768,)``.
        k: tracks wanted, at least 1; there are fewer only where fewer match.
        revision: of the bundle; embeddings of other revisions do not compare.
        filters: head -> range that a track must be in.
        without: content ids that are left out.
    """
    best: dict[str, Neighbour] = {}
    floor = -np.inf
    for batch in _read_ahead(batches):
        rows = np.flatnonzero(_matching(batch, revision, filters or {}))
        if not rows.size:
            continue
        found = cosines(embeddings(batch["embedding"].take(pa.array(rows))), direction)
        order = np.argsort(-found, kind="stable")
        ids = batch["id"].take(pa.array(rows))
        for place in order:
            if len(best) == k and found[place] <= floor:
                break
            content_id = ids[place].as_py()
            if content_id in best or content_id in without:
                continue
            best[content_id] = _neighbour(batch, int(rows[place]), float(found[place]))
            if len(best) > k:
                del best[min(best, key=lambda name: best[name].similarity)]
            if len(best) == k:
                floor = min(track.similarity for track in best.values())
    return sorted(best.values(), key=lambda track: (-track.similarity, track.path))


def _read_ahead(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches; each is read while the one before is compared, and both take about as long."""
    source = iter(batches)
    with ThreadPoolExecutor(1, thread_name_prefix="tunelab-rows") as pool:
        following = pool.submit(next, source, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, source, None)
            yield batch


def _matching(batch: pa.RecordBatch, revision: str, filters: Mapping[str, Range]) -> npt.NDArray[np.bool_]:
    there = np.array(batch["embedding"].is_valid()) & np.array(batch["id"].is_valid())
    matching: npt.NDArray[np.bool_] = there & np.array(pc.equal(batch["revision"], revision))
    for head, wanted in filters.items():
        lower, upper = wanted.bounds
        # In doubles, as scores are rounded for answers; a score that is missing is no number and in no range.
        scores = batch[head].to_numpy(zero_copy_only=False).astype(np.float64)
        matching &= (scores >= lower) & (scores < upper)
    return matching


def _neighbour(batch: pa.RecordBatch, row: int, similarity: float) -> Neighbour:
    values = batch.slice(row, 1).select([name for name in COLUMNS if name != "embedding"]).to_pylist()[0]
    scores = {head: values[head] for head in HEADS if values[head] is not None}
    return Neighbour(values["path"], values["id"], similarity, scores, values["duration_s"])
