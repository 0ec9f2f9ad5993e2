"""The shape of a timeline, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from tunelab.service.schemas import Meta
from tunelab.types import LEAST_STEP_S, MOST_STEP_S, STEP_S

Times = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]
Points = Annotated[int, Field(ge=0, le=100)]


def _without_default(schema: dict[str, Any]) -> None:
    # A score that the bundle does not ship is left out: optional, but it has no default.
    schema.pop("default", None)


def _scores() -> Any:
    return Field([], description="One a segment; null: digital silence", json_schema_extra=_without_default)


def _score() -> Any:
    return Field(0, ge=0, le=100, json_schema_extra=_without_default)


class TimelineQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    step: Annotated[
        float, Field(ge=LEAST_STEP_S, le=MOST_STEP_S, allow_inf_nan=False, description="Length of a segment in seconds")
    ] = STEP_S


class SectionAnswer(BaseModel):
    model_config = ConfigDict(title="Section")

    start_s: Annotated[float, Field(ge=0)]
    end_s: Annotated[float, Field(gt=0)]
    label: Annotated[
        Annotated[str, Field(pattern="^[A-Z]+$")] | None,
        Field(description="The same where the track sounds the same again; null: silence"),
    ]


class TrackScores(BaseModel):
    """The scores of the whole track; one that the model does not have is left out."""

    energy: int = _score()
    danceability: int = _score()
    happiness: int = _score()
    acousticness: int = _score()
    instrumentalness: int = _score()
    speechiness: int = _score()


class TimelineAnswer(BaseModel):
    """Parallel arrays, one entry a segment; a score that the model does not have is left out."""

    model_config = ConfigDict(
        title="Timeline",
        json_schema_extra={
            "examples": [
                {
                    "start_s": [0.0, 5.0, 10.0],
                    "end_s": [5.0, 10.0, 14.2],
                    "energy": [18, 21, 84],
                    "danceability": [40, 43, 71],
                    "happiness": [33, 30, 62],
                    "acousticness": [90, 88, 9],
                    "instrumentalness": [91, 93, 12],
                    "speechiness": [4, 4, 6],
                    "sections": [
                        {"start_s": 0.0, "end_s": 10.0, "label": "A"},
                        {"start_s": 10.0, "end_s": 14.2, "label": "B"},
                    ],
                    "track": {
                        "energy": 41,
                        "danceability": 52,
                        "happiness": 42,
                        "acousticness": 62,
                        "instrumentalness": 65,
                        "speechiness": 5,
                    },
                    "_meta": {
                        "id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                        "model": "tunelab-v1",
                        "latency_ms": 412,
                        "credits_used": 5,
                        "credits_remaining": 990,
                        "trace_id": "afa-7a2d9f",
                    },
                }
            ]
        },
    )

    start_s: Annotated[Times, Field(description="Where each segment begins, in seconds")]
    end_s: Annotated[Times, Field(description="Where each segment ends: where the next begins, or the track ends")]
    energy: list[Points | None] = _scores()
    danceability: list[Points | None] = _scores()
    happiness: list[Points | None] = _scores()
    acousticness: list[Points | None] = _scores()
    instrumentalness: list[Points | None] = _scores()
    speechiness: list[Points | None] = _scores()
    sections: Annotated[list[SectionAnswer], Field(min_length=1, description="From the start of the track to its end")]
    track: TrackScores
    meta: Annotated[Meta, Field(alias="_meta")]
