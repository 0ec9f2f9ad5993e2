import numpy as np
import pytest

from tunelab.training.genres import GENRE_TAGS, expected, genre_shares
from tunelab.training.musicnn import TAGS
from tunelab.types import HEADS, FloatArray


def clip(genre: str) -> FloatArray:
    tags = np.zeros((1, len(TAGS)), np.float32)
    for name in GENRE_TAGS[genre].split(","):
        tags[0, TAGS.index(name)] = 8.0
    return tags


@pytest.mark.parametrize("genre", GENRE_TAGS)
def test_shares_sum_to_one_and_follow_the_tags(genre: str) -> None:
    shares = genre_shares(clip(genre))
    assert shares.sum() == pytest.approx(1.0)
    assert list(GENRE_TAGS)[int(shares.argmax())] == genre


def test_genres_lead_one_to_expect_what_the_table_says() -> None:
    assert expected(clip("Folk"), "acousticness")[0] == pytest.approx(0.916, abs=0.03)
    assert expected(clip("Hip-Hop"), "speechiness")[0] > 1.5 * expected(clip("Rock"), "speechiness")[0]
    assert expected(clip("Chiptune"), "energy")[0] > expected(clip("Folk"), "energy")[0]
    for head in HEADS:
        assert 0 < expected(np.zeros((1, len(TAGS)), np.float32), head)[0] < 1
