"""Kinds of training clips: their numbers, and how often each is drawn."""

from __future__ import annotations

import math

from tunelab.errors import SettingsError

ACOUSTIC_SCORE, ELECTRONIC_SCORE = 5, 6
"""Kinds of music alone that was rendered from scores: what played is known."""
LAYERED = "layered"
"""Two tracks at once: no music as people make it, but the teachers can be followed there, too. For training alone."""
KINDS = {"music": 0, "speech": 1, "speech+music": 2, "sung": 3, "sung+music": 4, "rapped+music": 7, LAYERED: 8}
"""Numbers of the kinds that are drawn; with :data:`KIND_WEIGHTS`, how often."""
KIND_WEIGHTS = dict(zip(KINDS, (0.40, 0.05, 0.09, 0.03, 0.20, 0.06, 0.17), strict=True))
NO_VOICE = ("music", LAYERED)
"""Kinds to which no voice is added."""


def of_kind(name: str) -> tuple[int, ...]:
    """Numbers that clips of a kind of :data:`KINDS` carry: music may turn out to be rendered from scores."""
    return (KINDS[name], ACOUSTIC_SCORE, ELECTRONIC_SCORE) if name == "music" else (KINDS[name],)


def kinds_from(text: str) -> dict[str, float]:
    """Read shares of kinds, as in ``music=0.5,rapped+music=0.5``; an empty text stands for :data:`KIND_WEIGHTS`.

    Raises:
        SettingsError: an unknown kind, or a share that is no number above 0.
    """
    shares: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        kind, _, share = part.strip().partition("=")
        if kind not in KINDS:
            raise SettingsError(f"{kind!r} is no kind of clip: there are {', '.join(KINDS)}")
        try:
            shares[kind] = float(share)
        except ValueError:
            shares[kind] = math.nan
        if not 0 < shares[kind] < math.inf:
            raise SettingsError(f"the share of {kind} has to be a number above 0")
    return shares or KIND_WEIGHTS
