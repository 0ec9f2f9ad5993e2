import json

import numpy as np
import pandas as pd

from tunelab.evaluation.card import card_markdown, groups_of, head_row, make_card
from tunelab.evaluation.listeners import listener_figures
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


def test_card_names_what_was_dropped() -> None:
    rng = np.random.default_rng(0)
    known = np.stack([np.zeros(30), np.repeat(np.arange(6), 5), np.zeros(30), np.zeros(30)], 1).astype(np.float32)
    truth = rng.random(30).astype(np.float32)
    rows = {}
    for head, score in (("energy", truth), ("happiness", rng.random(30).astype(np.float32))):
        row = head_row(head, score, truth, groups_of(known), np.ones(30, bool), "a teacher", truth)
        rows[head] = {"shipped": row["pearson_r"] >= 0.7, **row}
    card = make_card(encoder={}, training={}, heads=rows, listeners=[], every_2nd={}, reproduce=["a command"])
    assert set(card["dropped"]) == {"liveness", "happiness"}
    assert card["heads"]["energy"]["pearson_r"] == card["heads"]["energy"]["pearson_r_vibenet"] == 1.0
    assert "| happiness | no |" in card_markdown(json.loads(json.dumps(card)))


def test_clips_of_voice_alone_are_their_own_group() -> None:
    known = np.array([[0, 3, 0, 0], [0, 3, 0, 0], [1, -1, 1, 1], [1, -1, 1, 1]], np.float32)
    assert len(set(groups_of(known).tolist())) == 3
