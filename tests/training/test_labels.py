import numpy as np
import pytest

from tunelab.training.kinds import ACOUSTIC_SCORE, KINDS
from tunelab.training.labels import (
    SCORE_COLUMN,
    TAG_WEIGHTS,
    Labeller,
    axis,
    learnt_from,
    left_of_instrumental,
    sources,
    usual_mix,
)
from tunelab.training.musicnn import TAGS
from tunelab.training.scale import MUSIC_SHARE, load_scale
from tunelab.types import HEADS, FloatArray


@pytest.fixture
def answers() -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.2, 0.8, (500, 7)).astype(np.float32)
    return scores, rng.normal(-4, 2, (500, len(TAGS))).astype(np.float32)


ENDS = {
    "energy": ("MTT loud", "MTT quiet"),
    "danceability": ("MTT dance", "MTT classical"),
    "happiness": ("MSD happy", "MSD sad"),
    "acousticness": ("MTT flute", "MTT techno"),
    "instrumentalness": ("MSD instrumental", "MTT singing"),
    "speechiness": ("MSD Hip-Hop", "MSD ambient"),
}


@pytest.mark.parametrize("head", HEADS)
def test_every_axis_rises_with_its_upper_and_falls_with_its_lower_tags(head: str) -> None:
    tags = np.zeros((3, len(TAGS)), np.float32)
    for row, tag in enumerate(ENDS[head], start=1):
        tags[row, TAGS.index(tag)] = 1
    assert axis(tags, head)[1] > axis(tags, head)[0] > axis(tags, head)[2]
    assert np.array_equal(axis(np.ones((2, len(TAGS)), np.float32), head), np.zeros(2, np.float32))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_blending_keeps_the_scale_of_the_scores(answers: tuple[FloatArray, FloatArray], weight: float) -> None:
    scores, tags = answers
    blended = Labeller.measure(scores, tags, np.zeros((500, 4), np.float32)).blend(scores, tags, "happiness", weight)
    wanted = scores[:, SCORE_COLUMN["happiness"]]
    assert float(blended.mean()) == pytest.approx(float(wanted.mean()), abs=1e-4)
    assert float(blended.std()) == pytest.approx(float(wanted.std()), rel=0.2)
    if weight == 0.0:
        np.testing.assert_allclose(blended, wanted, atol=1e-5)


def test_any_voice_that_is_heard_ends_instrumental() -> None:
    shares = np.array([0.0, 1 / (1 + 10**0.8), 0.5, 1.0], np.float32)
    assert left_of_instrumental(shares) == pytest.approx([1.0, 1 / 2, 1 / 7, 1 / 8], abs=0.05)


def test_construction_wins_over_the_teachers(answers: tuple[FloatArray, FloatArray]) -> None:
    scores, tags = answers
    plain, voiced = np.zeros((500, 4), np.float32), np.zeros((500, 4), np.float32)
    voiced[:, 2:] = 1
    labeller = Labeller.measure(scores, tags, plain)
    before, after = labeller(scores, tags, plain), labeller(scores, tags, voiced)
    assert after["instrumentalness"].max() < np.median(before["instrumentalness"])
    assert after["speechiness"].min() == pytest.approx(0.95)
    assert before["speechiness"].max() <= 0.25
    assert np.array_equal(before["energy"], after["energy"])
    assert all(0 < values.min() <= values.max() < 1 for values in before.values())


def test_the_card_says_where_labels_come_from() -> None:
    assert set(TAG_WEIGHTS) == set(HEADS)
    assert sources("speechiness").endswith("overruled by what is known of the added voice")
    assert "of clips in the usual mix of kinds" in sources("speechiness")
    assert sources("energy").endswith("of clips without added voice")


@pytest.mark.parametrize("head", HEADS)
def test_what_is_told_of_music_is_learnt_from_music_without_added_voice(head: str) -> None:
    voice_too = head in {"instrumentalness", "speechiness"}
    known = np.zeros((4, 4), np.float32)
    known[1, 2:] = (0.5, 0.5)  # spoken
    known[2, 2] = 0.01  # sung, faintly
    assert learnt_from(head, known).tolist() == [True, voice_too, voice_too, True]
    # Of nothing else there is nothing better.
    assert learnt_from(head, known[1:3]).all()


def of_kinds(**counts: int) -> FloatArray:
    kinds = np.concatenate([np.full(count, KINDS[name.replace("_", "+")]) for name, count in counts.items()])
    known = np.zeros((len(kinds), 4), np.float32)
    known[:, 0] = np.random.default_rng(0).permutation(kinds)
    return known


def test_labels_stay_where_more_clips_of_some_kinds_are_added() -> None:
    known = of_kinds(music=800, speech=100, speech_music=180, sung=60, sung_music=400, rapped_music=120, layered=340)
    known[np.flatnonzero(known[:, 0] == 0)[:50], 0] = ACOUSTIC_SCORE
    voice = ~np.isin(known[:, 0], [0, ACOUSTIC_SCORE, KINDS["layered"]])
    known[:, 2] = 0.5 * voice
    rng = np.random.default_rng(1)
    scores = (0.2 + 0.3 * rng.random((2000, 7)) * (1 + voice[:, None])).astype(np.float32)
    tags = (rng.normal(size=(2000, len(TAGS))) + 2 * voice[:, None]).astype(np.float32)
    alone = (known[:, 0] == 0).nonzero()[0].repeat(10)
    more = [np.concatenate([values, values[alone]]) for values in (scores, tags, known)]
    assert np.array_equal(usual_mix(more[2]), np.arange(2000))
    before, after = (Labeller.measure(*clips)(scores, tags, known) for clips in ((scores, tags, known), more))
    for head in HEADS:
        np.testing.assert_array_equal(before[head], after[head])
        # What is told of music is learnt from the added music, too; what is told of voices is not.
        learnt = learnt_from(head, more[2])
        assert learnt[2000:].all() == learnt[2000:].any() == (head not in {"instrumentalness", "speechiness"})
        assert learnt.sum() == (2000 if head in {"instrumentalness", "speechiness"} else (more[2][:, 2] == 0).sum())


def test_where_a_kind_is_rare_or_missing_scales_are_measured_on_all_clips() -> None:
    for known in (of_kinds(music=3000), of_kinds(music=3000, speech=9)):
        assert np.array_equal(usual_mix(known), np.arange(len(known)))


def test_labels_of_ordinary_music_spread_as_published_features_do(answers: tuple[FloatArray, FloatArray]) -> None:
    scores, tags = answers
    known = np.zeros((500, 4), np.float32)
    labeller = Labeller.measure(scores, tags, known)
    labels = labeller(scores, tags, known)
    for head in HEADS:
        share = MUSIC_SHARE.get(head, 1.0)
        wanted = np.interp(np.array([10, 50, 90]) * share, range(101), load_scale()[head])
        assert np.percentile(labels[head], [10, 50, 90]) == pytest.approx(wanted, abs=0.02), head
        # Ranks stay.
        blend = labeller.blend(scores, tags, head, TAG_WEIGHTS[head])
        if head != "instrumentalness":
            assert (np.diff(labels[head][np.argsort(blend)]) >= 0).all(), head
