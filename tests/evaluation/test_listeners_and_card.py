import json

import numpy as np
import pandas as pd
import pytest

from tunelab.encoder import find_bundle
from tunelab.evaluation.card import card_markdown, groups_of, head_row, make_card
from tunelab.evaluation.listeners import listener_figures, means_by_kind
from tunelab.evaluation.report import mean_lines
from tunelab.types import HEADS

EMOTIONS = ("calmness", "joyful_activation", "power", "sadness", "tenderness", "tension")


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    genres = ["classical", "rock", "electronic", "pop"] * 10
    songs = pd.DataFrame({"path": [f"{n}.opus" for n in range(40)], "source": "emotify", "genre": genres})
    for emotion in EMOTIONS:
        songs[emotion] = rng.random(40)
    voices = pd.DataFrame({"path": [f"v{n}.opus" for n in range(20)], "source": "mir1k", "vocals": [0.0, 1.0] * 10})
    return pd.concat([songs, voices], ignore_index=True)


def test_perfect_scores_reach_one() -> None:
    table = _table()
    acoustic = (table.genre == "classical").to_numpy(np.float32)
    instrumental = (1 - table.vocals.fillna(0)).to_numpy(np.float32)
    figures = listener_figures(table, {"acousticness": acoustic, "instrumentalness": instrumental})
    assert [(row["head"], row["value"], row["n"]) for row in figures] == [
        ("acousticness", 1.0, 30),
        ("instrumentalness", 1.0, 20),
    ]
    assert json.loads(json.dumps(figures)) == figures


def test_all_six_rows_with_all_heads() -> None:
    table = _table()
    scores = {head: np.random.default_rng(1).random(len(table)).astype(np.float32) for head in HEADS}
    assert len(listener_figures(table, scores)) == 6


def test_rows_without_clips_are_left_out() -> None:
    table = _table()
    table = table[table.source == "emotify"]
    scores = {head: np.random.default_rng(1).random(len(table)).astype(np.float32) for head in HEADS}
    assert [row["head"] for row in listener_figures(table, scores)].count("instrumentalness") == 0


def test_measures_beside_the_rows_own() -> None:
    table = _table()
    scores = {head: np.random.default_rng(1).random(len(table)).astype(np.float32) for head in HEADS}
    by_measure = {row["measure"]: row for row in listener_figures(table, scores)}
    for row in by_measure.values():
        assert next(iter(row["measures"].values())) == {"value": row["value"], "ci95": row["ci95"]}
    measures = {name: set(row["measures"]) for name, row in by_measure.items()}
    # The share of listeners is on the score's scale, a sum of such shares is not.
    assert measures["Spearman with joyful_activation"] == {"pearson_r", "spearman", "ccc", "rmse"}
    assert measures["Spearman with joyful_activation - sadness - tension"] == {"pearson_r", "spearman"}
    assert measures["AUC accompaniment vs with singing"] == {"auc"}


def test_clips_of_one_singer_are_one_group() -> None:
    table = _table()
    own = listener_figures(table, {"instrumentalness": table.vocals.fillna(0).to_numpy(np.float32)})[0]
    assert (own["n"], own["groups"]) == (20, 20)
    table.loc[table.source == "mir1k", "path"] = [f"audio/mir1k-{'abcd'[n // 5]}_{n}_01-mix.opus" for n in range(20)]
    score = table.vocals.fillna(0).to_numpy(np.float32)
    score[table.path.str.contains("mir1k-a")] = 0.5
    [shared] = listener_figures(table, {"instrumentalness": score})
    assert (shared["n"], shared["groups"]) == (20, 4)
    table.loc[table.source == "mir1k", "path"] = [f"{n}.opus" for n in range(20)]
    [single] = listener_figures(table, {"instrumentalness": score})
    assert np.ptp(shared["ci95"]) > np.ptp(single["ci95"])


def test_means_of_genres_and_of_singing() -> None:
    table = _table()
    scores = {"instrumentalness": np.linspace(0, 1, len(table), dtype=np.float32)}
    means = means_by_kind(table, scores)
    assert set(means) == {*table.genre.dropna(), "accompaniment", "with singing"}
    assert sum(row["n"] for row in means.values()) == len(table)
    for kind, chosen in (("accompaniment", table.vocals == 0), (table.genre[0], table.genre == table.genre[0])):
        wanted = 100 * scores["instrumentalness"][chosen.to_numpy()].mean()
        assert means[kind]["instrumentalness"] == pytest.approx(wanted, abs=0.06)
    assert [line.split()[0] for line in mean_lines(means)] == [kind.split()[0] for kind in means]
    rows = card_markdown(json.loads((find_bundle().path / "card.json").read_text()) | {"means": means})
    assert f"| with singing | {means['with singing']['n']} | " in rows


def test_card_names_what_was_dropped() -> None:
    rng = np.random.default_rng(0)
    known = np.stack([np.zeros(30), np.repeat(np.arange(6), 5), np.zeros(30), np.zeros(30)], 1).astype(np.float32)
    truth = rng.random(30).astype(np.float32)
    rows = {}
    for head, score in (("energy", truth), ("happiness", rng.random(30).astype(np.float32))):
        row = head_row(head, score, truth, groups_of(known), np.ones(30, bool), "a teacher", truth)
        rows[head] = {"shipped": row["pearson_r"] >= 0.7, **row}
    card = json.loads(
        json.dumps(
            make_card(
                encoder={},
                training={},
                heads=rows,
                listeners=[],
                every_2nd={},
                reproduce=["a command"],
                name="some-v1",
                version="3",
            )
        )
    )
    assert set(card["dropped"]) == {"liveness", "happiness"}
    assert list(card["heads"]) == ["energy", "happiness", "liveness"]
    assert card["heads"]["energy"]["pearson_r"] == card["heads"]["energy"]["pearson_r_vibenet"] == 1.0
    assert card["heads"]["energy"]["ci95"] == card["heads"]["energy"]["measures"]["pearson_r"]["ci95"]
    assert card["heads"]["energy"]["ccc"] == 1.0
    text = card_markdown(card)
    assert "| happiness | no |" in text
    assert "| liveness | no | - | held-out tracks of an earlier trial | - | 0.448 | - | - | - | - | - | - |" in text
    assert "- Not shipped: liveness, below the gate of 0.7" in text
    assert "- Not shipped: energy" not in text


def _tables(text: str) -> list[list[int]]:
    """Cells in each line of each table."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    return [[line.count("|") - 1 for line in block] for block in blocks]


def test_cards_of_before_are_still_written() -> None:
    card = json.loads((find_bundle().path / "card.json").read_text())
    for row in card["heads"].values():
        for name in ("ccc", "measures"):
            row.pop(name, None)
    card["heads"].pop("liveness", None)
    card["embedding"] = {
        "participation_ratio": {"tunelab": 11.0, "vibenet": 7.0},
        "genre": {"n": 400, "tunelab": {"probe": 0.7, "neighbour": 0.6}, "vibenet": {"probe": 0.8, "neighbour": 0.5}},
        "package": {"n": 40, "classes": 4, "chance": 0.25}
        | {name: {"probe": 0.9, "neighbour": 0.8} for name in ("tunelab", "vibenet")},
    }
    text = card_markdown(card)
    assert "| genre of real songs (n = 400) | probe | - | 0.700 | 0.800 |" in text
    assert "| package of origin (n = 40, 4 classes) | neighbour | 0.250 | 0.800 | 0.800 |" in text
    assert "| real songs (n = 400) | effective dimensions | - | 11.0 | 7.0 |" in text
    tables = _tables(text)
    assert len(tables) >= 5
    assert all(len(set(cells)) == 1 for cells in tables)


def test_clips_of_voice_alone_are_their_own_group() -> None:
    known = np.array([[0, 3, 0, 0], [0, 3, 0, 0], [1, -1, 1, 1], [1, -1, 1, 1]], np.float32)
    assert len(set(groups_of(known).tolist())) == 3
