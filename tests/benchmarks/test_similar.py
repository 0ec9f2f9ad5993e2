"""The made-up tracks of the search benchmark, and what is counted on labelled ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.neighbours import agreement, interval, read_labels
from benchmarks.similar import SHARES, batches, cases, content_id, make_tracks
from tunelab.catalog.schema import SCHEMA


def test_made_up_tracks_have_the_structure_of_real_ones() -> None:
    tracks = make_tracks(1500, seed=0)
    assert (tracks.embeddings == make_tracks(1500, seed=0).embeddings).all()
    vectors = tracks.embeddings.astype(np.float64)
    variance = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
    assert 5 < variance.sum() ** 2 / (variance**2).sum() < 15
    assert 0.2 < tracks.scores.std() < 0.35
    assert tracks.scores.min() >= 0
    assert tracks.scores.max() <= 1


def test_rows_are_those_of_a_batch_job() -> None:
    tracks = make_tracks(5000, seed=0)
    found = list(batches(tracks, 7))
    assert all(batch.schema.equals(SCHEMA) for batch in found)
    assert sum(batch.num_rows for batch in found) == 5000
    assert found[0]["id"][0].as_py() == content_id(7)
    row = found[1].slice(0, 1).to_pylist()[0]
    assert (np.array(row["embedding"], np.float16) == tracks.embeddings[found[0].num_rows]).all()


def test_filters_keep_what_they_say() -> None:
    tracks = make_tracks(3000, seed=0)
    ends = np.round(np.cumsum(list(SHARES.values())) * 3000).astype(int).tolist()
    parts = dict(zip(SHARES, zip([0, *ends], ends, strict=False), strict=True))
    begin, end = parts["label"]
    one = next(case for case in cases(tracks, parts) if "keeps 10 %" in case.name)
    ((_, wanted),) = one.filters.items()
    energy = tracks.scores[begin:end, 0]
    assert 0.05 < np.mean(energy >= wanted.bounds[0]) < 0.15


def test_agreement_counts_neighbours_with_the_same_label() -> None:
    vectors = np.zeros((6, 4), np.float32)
    vectors[:3, 0], vectors[3:, 1] = 1, 1
    vectors += 0.01 * np.random.default_rng(0).random((6, 4)).astype(np.float32)
    labels = np.array(["a", "a", "a", "b", "b", "a"])
    assert agreement(vectors, labels, 2).tolist() == [1.0, 1.0, 1.0, 0.5, 0.5, 0.0]
    assert interval(np.array([1.0, 1.0])) == "100.0 % (100.0 .. 100.0)"


def test_labels_are_by_file_name(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("path,genre\naudio/a.mp3,rock\naudio/b.mp3,\n")
    assert read_labels(path, "genre") == {"a.mp3": "rock"}
    with pytest.raises(ValueError, match="columns"):
        read_labels(path, "artist")
