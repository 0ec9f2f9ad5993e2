"""Exact search over rows, against one matrix product over all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from tests.similarity.support import content_id_of, embeddings_of, rows_of
from tunelab.errors import CatalogError
from tunelab.similarity.exact import COLUMNS, nearest
from tunelab.similarity.ranges import Range
from tunelab.similarity.vectors import cosines, embeddings, mean_direction
from tunelab.types import HEADS, percent

NAMES = [f"track {number}" for number in range(300)]
VECTORS = embeddings_of(300, seed=1)
ROWS = rows_of(NAMES, VECTORS)
QUERY = np.random.default_rng(2).normal(size=768).astype(np.float32)


def in_parts(rows: pa.RecordBatch, size: int = 64) -> Iterator[pa.RecordBatch]:
    for begin in range(0, rows.num_rows, size):
        yield rows.slice(begin, size).select(list(COLUMNS))


def expected(keep: list[int] | range, k: int) -> list[str]:
    exact = VECTORS.astype(np.float64)
    cosine = exact @ QUERY / np.linalg.norm(exact, axis=1) / np.linalg.norm(QUERY)
    return [f"/music/{NAMES[place]}.mp3" for place in sorted(keep, key=lambda place: -cosine[place])[:k]]


@pytest.mark.parametrize("k", [1, 10, 299, 300, 400])
def test_the_nearest_in_their_order(k: int) -> None:
    found = nearest(in_parts(ROWS), QUERY, k, revision="1")
    assert [track.path for track in found] == expected(range(300), k)
    assert all(one.similarity >= other.similarity for one, other in itertools.pairwise(found))
    row = ROWS.slice(NAMES.index(found[0].path[len("/music/") : -len(".mp3")]), 1).to_pylist()[0]
    assert found[0].content_id == row["id"]
    assert found[0].scores == {head: row[head] for head in HEADS}
    assert found[0].duration_s == 123.5
    vector = np.array(row["embedding"], np.float64)
    cosine = vector @ QUERY / np.linalg.norm(vector) / np.linalg.norm(QUERY)
    assert found[0].similarity == pytest.approx(cosine, abs=1e-6)


def test_how_rows_come_in_parts_does_not_matter() -> None:
    whole = nearest([ROWS], QUERY, 20, revision="1")
    for size in (1, 7, 300):
        found = nearest(in_parts(ROWS, size), QUERY, 20, revision="1")
        assert [track.path for track in found] == [track.path for track in whole]


def test_filters_keep_what_answers_would_show() -> None:
    wanted = Range(40, 60)
    shown = [percent({"energy": row["energy"]})["energy"] for row in ROWS.to_pylist()]
    keep = [place for place, value in enumerate(shown) if 40 <= value <= 60]
    assert 20 < len(keep) < 200
    found = nearest(in_parts(ROWS), QUERY, 100, revision="1", filters={"energy": wanted})
    assert [track.path for track in found] == expected(keep, 100)
    rare = {"energy": wanted, "happiness": Range(0, 3)}
    for track in nearest(in_parts(ROWS), QUERY, 100, revision="1", filters=rare):
        assert 40 <= percent(track.scores)["energy"] <= 60
        assert percent(track.scores)["happiness"] <= 3


def test_a_score_that_is_missing_is_in_no_range() -> None:
    rows = rows_of(["a", "b"], energy=[None, 0.5])
    found = nearest([rows], QUERY, 5, revision="1", filters={"energy": Range(0, 100)})
    assert [track.path for track in found] == ["/music/b.mp3"]
    everything = nearest([rows], QUERY, 5, revision="1")
    assert {track.path: sorted(track.scores) for track in everything}["/music/a.mp3"] == sorted(set(HEADS) - {"energy"})


def test_other_revisions_and_what_is_left_out() -> None:
    revisions = ["1" if number % 2 else "2" for number in range(300)]
    rows = rows_of(NAMES, VECTORS, revision=revisions)
    odd = [place for place in range(300) if place % 2]
    first = expected(odd, 1)[0][len("/music/") : -len(".mp3")]
    found = nearest(in_parts(rows), QUERY, 10, revision="1", without=[content_id_of(first)])
    assert [track.path for track in found] == expected(odd, 11)[1:]
    assert nearest(in_parts(rows), QUERY, 10, revision="3") == []


def test_the_same_content_twice_is_one_track_and_takes_no_place() -> None:
    twice = rows_of([*NAMES, *NAMES], np.concatenate([VECTORS, VECTORS]))
    found = nearest(in_parts(twice), QUERY, 10, revision="1")
    assert [track.path for track in found] == expected(range(300), 10)


def test_vectors_without_direction_are_similar_to_nothing() -> None:
    vectors = VECTORS[:4].copy()
    vectors[0] = 0
    vectors[1] = np.nan
    vectors[2, :5] = np.inf
    found = nearest([rows_of(["zero", "nan", "inf", "fine"], vectors)], vectors[3].astype(np.float32), 4, revision="1")
    similarities = {track.path: track.similarity for track in found}
    assert similarities["/music/fine.mp3"] == pytest.approx(1, abs=1e-6)
    assert {similarities[f"/music/{name}.mp3"] for name in ("zero", "nan", "inf")} == {0.0}
    assert cosines(VECTORS, np.zeros(768, np.float32)).tolist() == [0.0] * 300


def test_rows_without_embedding_or_id_are_passed_over() -> None:
    rows = rows_of(["a", "b", "c"], [VECTORS[0], None, VECTORS[2]], id=[content_id_of("a"), content_id_of("b"), None])
    assert [track.path for track in nearest([rows], QUERY, 5, revision="1")] == ["/music/a.mp3"]
    assert nearest([], QUERY, 5, revision="1") == []


def test_rows_that_cannot_be_read_are_told() -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield ROWS.slice(0, 10)
        raise CatalogError("a shard is damaged")

    with pytest.raises(CatalogError, match="damaged"):
        nearest(broken(), QUERY, 10, revision="1")


def test_embeddings_of_a_slice() -> None:
    column = ROWS["embedding"]
    np.testing.assert_array_equal(embeddings(column.slice(10, 5)), VECTORS[10:15])


def test_mean_direction_counts_each_the_same() -> None:
    one, other = np.zeros((2, 768), np.float32)
    one[0], other[1] = 100, 0.01
    direction = mean_direction(np.stack([one, other]))
    np.testing.assert_allclose(direction[:3], [0.5**0.5, 0.5**0.5, 0], rtol=1e-6)
    assert not mean_direction(np.stack([one, -one])).any()
    assert not mean_direction(np.zeros((1, 768), np.float32)).any()
