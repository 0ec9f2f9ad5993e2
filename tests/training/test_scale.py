from pathlib import Path

import numpy as np
import pytest

from tunelab.training.scale import (
    HALF_A_POINT,
    label_scale,
    load_scale,
    logit,
    measure_scale,
    onto_scale,
    percentiles,
)
from tunelab.types import HEADS


def test_percentiles_of_a_table_in_the_published_columns(tmp_path: Path) -> None:
    table, out = tmp_path / "features.csv", tmp_path / "scale.csv"
    names = "acousticness,danceability,energy,instrumentalness,liveness,speechiness,tempo,valence"
    rows = [f"track_id,{names}"]
    for number in range(101):
        valence = "" if number == 50 else str(number / 200)
        rows.append(",".join([str(number), *[str(number / 100)] * 7, valence]))
    table.write_text("\n".join(rows))
    measure_scale(table, out)
    lines = out.read_text().splitlines()
    assert lines[0] == ",".join(HEADS)
    assert len(lines) == 102
    row = dict(zip(HEADS, lines[51].split(","), strict=True))
    assert float(row["energy"]) == pytest.approx(0.5)
    assert float(row["happiness"]) == pytest.approx(0.25, abs=0.01)


def test_the_shipped_scale_rises_and_stays_in_range() -> None:
    for head, values in load_scale().items():
        assert values.shape == (101,)
        assert (np.diff(values) >= 0).all(), head
        assert 0 <= values[0] < values[-1] <= 1
    # Known of the source: speechiness is low on nearly all music.
    assert load_scale()["speechiness"][50] < 0.06 < load_scale()["instrumentalness"][50]


def test_labels_are_told_apart_where_published_values_pile_up() -> None:
    published, drawn_out = load_scale()["acousticness"], label_scale()["acousticness"]
    assert logit(published[-9:]).max() - logit(published[-9:]).min() < 0.5
    assert logit(drawn_out[-9:]).max() - logit(drawn_out[-9:]).min() > 3
    for head, values in label_scale().items():
        assert (np.diff(values) >= 0).all(), head
        assert 0 < values[0] < values[-1] < 1, head
        assert values == pytest.approx(load_scale()[head], abs=HALF_A_POINT + 1e-9), head
        assert values[12:89] == pytest.approx(load_scale()[head][12:89], abs=1e-12), head


def test_logits_are_finite_at_the_ends() -> None:
    assert logit(np.array([0.0, 0.5, 1.0])) == pytest.approx([-9.21, 0.0, 9.21], abs=0.01)
    assert np.isnan(logit(np.array([np.nan]))).all()


def test_a_map_keeps_ranks_and_ends_at_the_scale() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    mapped = onto_scale("energy", values, percentiles(values))
    assert (np.diff(mapped[np.argsort(values)]) >= 0).all()
    assert mapped.min() == pytest.approx(label_scale()["energy"][0], abs=1e-3)
    assert mapped.max() == pytest.approx(label_scale()["energy"][-1], abs=1e-3)
    # Beyond what was measured nothing is invented.
    assert onto_scale("energy", np.array([99.0], np.float32), percentiles(values))[0] == mapped.max()
