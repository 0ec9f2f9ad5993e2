"""A timeline as JSON: what the service answers, without ``_meta``, and what the command prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunelab.types import HEADS, Timeline, percent

_KEYS = ("start_s", "end_s", *HEADS, "sections", "track")
_SECTION_KEYS = ("start_s", "end_s", "label")


def to_json(timeline: Timeline) -> dict[str, Any]:
    """Scores as integers from 0 to 100, ``None`` where it is silent; times in seconds, to the millisecond."""
    return {
        "start_s": [round(time_s, 3) for time_s in timeline.start_s],
        "end_s": [round(time_s, 3) for time_s in timeline.end_s],
        **timeline.percent(),
        "sections": [
            {"start_s": round(section.start_s, 3), "end_s": round(section.end_s, 3), "label": section.label}
            for section in timeline.sections
        ],
        "track": percent(timeline.track),
    }


def in_order(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The same with its keys in the order of :func:`to_json`, which a database does not keep."""
    ordered = {key: answer[key] for key in _KEYS if key in answer}
    ordered["sections"] = [{key: section[key] for key in _SECTION_KEYS} for section in answer["sections"]]
    ordered["track"] = {head: answer["track"][head] for head in HEADS if head in answer["track"]}
    return ordered
