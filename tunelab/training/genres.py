"""What a clip's genres say about its scores: musicnn's tags through the means that genres have in published features.

``fma_genre_means.csv`` holds the means of the Echo Nest features over the FMA tracks of 11 genres (643 tracks; FMA
dataset, Defferrard et al., ISMIR 2017, CC BY 4.0).
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from tunelab.training.datasets import COLUMN
from tunelab.training.musicnn import TAGS
from tunelab.types import FloatArray

MEANS_FILE = "fma_genre_means.csv"
GENRE_TAGS: dict[str, str] = {
    "Hip-Hop": "MSD Hip-Hop,MSD rnb",
    "Folk": "MSD folk,MSD acoustic",
    "Pop": "MSD pop,MTT pop",
    "Rock": "MSD rock,MTT rock,MSD alternative rock,MSD indie rock,MSD punk",
    "International": "MTT indian,MTT sitar",
    "Soundtrack": "MTT classical,MTT ambient,MTT strings",
    "Electronic": "MSD electronic,MSD electronica,MTT techno,MSD House,MSD electro,MSD dance",
    "Psych-Folk": "MSD folk,MSD experimental",
    "Trip-Hop": "MSD chillout,MSD electronica,MSD Hip-Hop",
    "Chiptune": "MTT electronic,MTT synth,MSD electro",
    "Psych-Rock": "MSD Progressive rock,MSD experimental",
}
"""For each genre of the table the tags that speak for it."""


@cache
def _means() -> dict[str, dict[str, str]]:
    text = resources.files("tunelab.training").joinpath(MEANS_FILE).read_text()
    return {row["genre_title"]: row for row in csv.DictReader(text.splitlines())}


def genre_shares(tags: FloatArray) -> npt.NDArray[np.float64]:
    """How much of each genre of :data:`GENRE_TAGS` a clip is, shape ``(n, 11)``; rows sum to 1.

    Args:
        tags: standardised logits, shape ``(n, 100)``.
    """
    places = [tags[:, [TAGS.index(tag) for tag in names.split(",")]].mean(1) for names in GENRE_TAGS.values()]
    odds = np.exp(np.stack(places, 1).astype(np.float64))
    shares: npt.NDArray[np.float64] = odds / odds.sum(1, keepdims=True)
    return shares


def expected(tags: FloatArray, head: str) -> FloatArray:
    """The published feature to be expected of a clip by its genres alone, shape ``(n,)``, 0..1.

    Args:
        tags: standardised logits, shape ``(n, 100)``.
        head: one of :data:`tunelab.types.HEADS`.
    """
    means = np.array([float(_means()[genre][COLUMN.get(head, head)]) for genre in GENRE_TAGS])
    values: FloatArray = (genre_shares(tags) @ means).astype(np.float32)
    return values
