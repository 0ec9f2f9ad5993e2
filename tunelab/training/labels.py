"""Labels of the six heads: vibenet's scores, tilted by musicnn's tags, overruled by what is known of added voice.

vibenet's scores and musicnn's tags are both looked at as places among the clips: tags tell what vibenet is weak at (who
sings, which genre, whether a calm piece is sad or serene). Each head has an axis of tags, and a clip's place on it, in
standard deviations of the corpus, is blended with its place among vibenet's scores. The blend is then mapped onto the
spread that the published features have on ordinary music.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunelab.training.genres import expected
from tunelab.training.kinds import ACOUSTIC_SCORE, ELECTRONIC_SCORE, KIND_WEIGHTS, KINDS, LAYERED, of_kind
from tunelab.training.musicnn import TAGS
from tunelab.training.scale import LEAST, onto_scale, percentiles
from tunelab.training.teachers import ATTRIBUTES
from tunelab.types import HEADS, FloatArray

AXES: dict[str, tuple[str, str]] = {
    "energy": (
        "MTT loud,MTT fast,MTT rock,MTT metal,MTT drums,MSD rock,MSD metal,MSD punk,MSD hard rock,MSD party",
        "MTT quiet,MTT slow,MTT soft,MTT ambient,MSD ambient,MSD chillout,MSD Mellow,MSD acoustic,MSD sad",
    ),
    "danceability": (
        "MTT dance,MTT beat,MTT beats,MSD dance,MSD House,MSD Hip-Hop,MSD party,MSD funk,MSD rnb,MSD soul,MSD electro",
        "MTT classical,MTT ambient,MTT opera,MTT choral,MSD ambient,MSD heavy metal,MSD Progressive rock,"
        "MSD experimental",
    ),
    "happiness": (
        "MSD happy,MSD party,MSD funk,MSD soul,MSD oldies,MSD 60s,MSD catchy,MSD country,MTT fast",
        "MSD sad,MSD ambient,MSD experimental,MSD heavy metal,MTT ambient,MTT slow,MTT weird,MTT metal",
    ),
    "acousticness": (
        "MSD acoustic,MSD folk,MSD jazz,MSD country,MTT classical,MTT guitar,MTT piano,MTT strings,MTT flute,MTT solo,"
        "MTT soft,MTT quiet,MTT harp",
        "MSD electronic,MSD electro,MSD House,MSD dance,MSD metal,MSD hard rock,MSD alternative rock,MTT electronic,"
        "MTT techno,MTT synth,MTT rock,MTT metal,MTT loud,MTT beats",
    ),
    "instrumentalness": (
        "MTT no vocals,MTT no vocal,MTT no voice,MSD instrumental,MSD ambient",
        "MTT vocal,MTT vocals,MTT voice,MTT singing,MTT female,MTT male,MTT woman,MTT man,MTT male vocal,"
        "MTT female vocal,MTT male voice,MTT female voice,MSD female vocalists,MSD male vocalists,MSD pop",
    ),
    "speechiness": (
        "MSD Hip-Hop,MTT male voice,MTT man,MTT voice",
        "MSD instrumental,MSD ambient,MSD Progressive rock",
    ),
}
"""For each head the tags at the upper and at the lower end of its axis."""
TAG_WEIGHTS: dict[str, float] = {
    "energy": 0.5,
    "danceability": 0.5,
    "happiness": 0.5,
    "acousticness": 0.25,
    "instrumentalness": 0.7,
    "speechiness": 0.35,
}
"""Share of the axis in the label. The axes were written down first; the shares were then set after a look at the
validation songs, where blends of the teachers' own answers agreed better with listeners than vibenet alone."""
GENRE_WEIGHTS: dict[str, float] = {"energy": 0.3, "danceability": 0.3, "speechiness": 0.3}
"""Share of what the clip's genres lead one to expect, beside that blend; nothing for the other heads, where the same
look saw no gain."""
KNOWN_ACOUSTIC: dict[int, float] = {ACOUSTIC_SCORE: 0.95, ELECTRONIC_SCORE: 0.04}
"""Acousticness of music that was rendered from scores, by the kind of clip. It has no voice either."""
NOT_ORDINARY = (*KNOWN_ACOUSTIC, KINDS[LAYERED])
"""Kinds of music that no scale is measured on: rendered from scores, or two tracks at once."""
KNOWN_INSTRUMENTAL = 0.9
LEAST_LEFT = 0.12
"""Share of instrumentalness that a voice alone leaves."""
LEAST_MEASURED = 1000
"""Clips that scales are measured on, if more can be had."""
CONSTRUCTED = frozenset({"instrumentalness", "speechiness"})
"""Heads whose labels are overruled where voice was added."""
RENDERED = frozenset({"acousticness", "instrumentalness"})
"""Heads whose labels are overruled where the music was rendered from scores."""
SCORE_COLUMN = dict(
    zip(HEADS, (ATTRIBUTES.index(name if name != "happiness" else "valence") for name in HEADS), strict=True)
)


def axis(tags: FloatArray, head: str) -> FloatArray:
    """Where clips stand on a head's axis, shape ``(n,)``; ``tags`` are standardised logits ``(n, 100)``."""
    upper, lower = (np.mean([tags[:, TAGS.index(name)] for name in names.split(",")], axis=0) for names in AXES[head])
    place: FloatArray = (upper - lower).astype(np.float32)
    return place


@dataclass(frozen=True, slots=True)
class Labeller:
    """Turns teachers' answers into labels; measured once on the training clips.

    Attributes:
        tag_mean: shape ``(100,)``; ``tag_std`` likewise.
        score: head -> mean and standard deviation of vibenet's score.
        place: head -> mean and standard deviation on the axis.
        genre: head -> mean and standard deviation of what genres lead one to expect.
        reference: head -> percentiles of the label on ordinary music (all clips without spoken word), which are mapped
            onto the scale that users know.
    """

    tag_mean: FloatArray
    tag_std: FloatArray
    score: Mapping[str, tuple[float, float]]
    place: Mapping[str, tuple[float, float]]
    genre: Mapping[str, tuple[float, float]]
    reference: Mapping[str, npt.NDArray[np.float64]]

    @classmethod
    def measure(cls, scores: FloatArray, tags: FloatArray, known: FloatArray) -> Labeller:
        """Measure spreads on training clips, in the :func:`usual_mix`; the arguments are those of :meth:`__call__`."""
        usual = usual_mix(known)
        scores, tags, known = scores[usual], tags[usual], known[usual]
        mean, std = tags.mean(0), tags.std(0) + 1e-6
        score: dict[str, tuple[float, float]] = {}
        place: dict[str, tuple[float, float]] = {}
        genre: dict[str, tuple[float, float]] = {}
        for head in HEADS:
            for table, values in (
                (score, scores[:, SCORE_COLUMN[head]]),
                (place, axis((tags - mean) / std, head)),
                (genre, expected((tags - mean) / std, head)),
            ):
                table[head] = (float(values.mean()), float(values.std()) + 1e-6)
        unscaled = cls(mean, std, score, place, genre, {})._unscaled(scores, tags, known)
        music = (known[:, 3] == 0) & ~np.isin(known[:, 0], NOT_ORDINARY)
        if not music.any():  # a corpus of speech alone
            music[:] = True
        return cls(mean, std, score, place, genre, {head: percentiles(unscaled[head][music]) for head in HEADS})

    def blend(self, scores: FloatArray, tags: FloatArray, head: str, weight: float) -> FloatArray:
        """vibenet's score and the axis, weighted ``1 - weight`` to ``weight``, and then what genres say.

        Shape ``(n,)``, on vibenet's scale. Without tags (``weight`` 0) genres do not count either: they are read from
        them.
        """
        mean, std = self.score[head]
        from_scores = (scores[:, SCORE_COLUMN[head]] - mean) / std
        standard = (tags - self.tag_mean) / self.tag_std
        from_tags = (axis(standard, head) - self.place[head][0]) / self.place[head][1]
        # Divided so that two sources that agree halfway keep the spread.
        norm = np.sqrt((1 - weight) ** 2 + weight**2 + weight * (1 - weight))
        blended = ((1 - weight) * from_scores + weight * from_tags) / norm
        if weight and (share := GENRE_WEIGHTS.get(head, 0.0)):
            from_genres = (expected(standard, head) - self.genre[head][0]) / self.genre[head][1]
            blended = (1 - share) * blended + share * from_genres
        return np.asarray(mean + std * blended, np.float32)

    def __call__(self, scores: FloatArray, tags: FloatArray, known: FloatArray) -> dict[str, FloatArray]:
        """Labels 0..1 per head.

        Args:
            scores: vibenet's, shape ``(n, 7)``, in the order of :data:`tunelab.training.teachers.ATTRIBUTES`.
            tags: mean logits over the clip, shape ``(n, 100)``.
            known: shape ``(n, 4)``: kind, package, share of voice, share of speech.

        Returns:
            head -> float32 ``(n,)``. Construction wins for voice: a clip with an added singer is not instrumental, a
            clip of pure speech is speech; and for music that was rendered from scores, whose instruments are known.
        """
        speech = known[:, 3]
        unscaled = self._unscaled(scores, tags, known)
        labels = {head: onto_scale(head, unscaled[head], self.reference[head]) for head in HEADS}
        labels["speechiness"] = np.where(speech > 0, 0.15 + 0.8 * speech, labels["speechiness"])
        for kind, acoustic in KNOWN_ACOUSTIC.items():
            rendered = known[:, 0] == kind
            labels["acousticness"] = np.where(rendered, acoustic, labels["acousticness"])
            least = np.maximum(labels["instrumentalness"], KNOWN_INSTRUMENTAL)
            labels["instrumentalness"] = np.where(rendered, least, labels["instrumentalness"])
        return {head: np.clip(values, LEAST, 1 - LEAST).astype(np.float32) for head, values in labels.items()}

    def _unscaled(self, scores: FloatArray, tags: FloatArray, known: FloatArray) -> dict[str, FloatArray]:
        labels = {head: self.blend(scores, tags, head, TAG_WEIGHTS[head]) for head in HEADS}
        labels["instrumentalness"] = np.clip(labels["instrumentalness"], 0.01, None) * left_of_instrumental(known[:, 2])
        return labels


def left_of_instrumental(voice: FloatArray) -> FloatArray:
    """What a voice leaves of instrumentalness, by its share of the loudness, 0..1: any voice that is heard ends it.

    A voice 8 dB below the music leaves a half, one at the music's level a seventh, a voice alone an eighth.
    """
    left: FloatArray = LEAST_LEFT + (1 - LEAST_LEFT) * np.exp(-7.0 * voice)
    return left


def usual_mix(known: FloatArray) -> npt.NDArray[np.intp]:
    """As many clips as can be had in the shares of :data:`KIND_WEIGHTS`: the first ones of each kind.

    Clips of some kinds that were rendered beside the others would move every place among the clips, and labels with
    it: with few voices, what a voice leaves of instrumentalness.

    Args:
        known: shape ``(n, 4)``, as :class:`Labeller` takes it.

    Returns:
        Their numbers 0..n-1, rising, shape ``(m,)``; where fewer than :data:`LEAST_MEASURED` can be had, all of them.
    """
    found = [(np.flatnonzero(np.isin(known[:, 0], of_kind(kind))), share) for kind, share in KIND_WEIGHTS.items()]
    whole = min(len(numbers) / share for numbers, share in found)
    if whole < LEAST_MEASURED:
        return np.arange(len(known))
    return np.sort(np.concatenate([numbers[: round(whole * share)] for numbers, share in found]))


def learnt_from(head: str, known: FloatArray) -> npt.NDArray[np.bool_]:
    """Which clips a head learns from, bool ``(n,)``: those in the :func:`usual_mix` where what was added is its label,
    else all without voice.

    What a teacher says of a voice that was made from speech or by a synthesizer is no guide to songs that people sing.
    And more music beside the usual mix teaches a head that listens for voices to expect none.

    Args:
        head: one of :data:`tunelab.types.HEADS`.
        known: shape ``(n, 4)``, as :class:`Labeller` takes it. Where every clip has a voice, all count.
    """
    chosen: npt.NDArray[np.bool_] = known[:, 2] == 0
    if head in CONSTRUCTED:
        chosen = np.isin(np.arange(len(known)), usual_mix(known))
    elif not chosen.any():
        chosen = np.ones(len(known), bool)
    return chosen


def sources(head: str) -> str:
    """What a head's labels were made from, for the card."""
    weight = TAG_WEIGHTS[head]
    parts = [f"vibenet 0.1.0 ({1 - weight:.0%})"] if weight < 1 else []
    parts += [f"an axis of musicnn 0.1.0 tags ({weight:.0%})"] if weight > 0 else []
    text = " and ".join(parts)
    if head in GENRE_WEIGHTS:
        text += f", shifted by what its genres have in published features ({GENRE_WEIGHTS[head]:.0%})"
    text += ", on the scale of published features"
    text += ", of clips in the usual mix of kinds" if head in CONSTRUCTED else ", of clips without added voice"
    known = ["of the added voice"] * (head in CONSTRUCTED) + ["of rendered scores"] * (head in RENDERED)
    return f"{text}, overruled by what is known {' and '.join(known)}" if known else text
