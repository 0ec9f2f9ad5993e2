"""The shapes of answers, as the OpenAPI document shows them."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tunelab.types import EMBEDDING_SIZE


def _score(meaning: str) -> Any:
    return Field(0, ge=0, le=100, description=meaning, json_schema_extra=_without_default)


def _without_default(schema: dict[str, Any]) -> None:
    # A score that the bundle does not ship is left out of the answer: optional, but 0 is not its default.
    schema.pop("default", None)


ContentId = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file's bytes")]
TraceId = Annotated[str, Field(pattern="^[0-9a-f]{3}-[0-9a-f]{6}$", description="Name this when something is wrong")]


class Meta(BaseModel):
    id: ContentId
    model: Annotated[str, Field(description="The model bundle that answered")]
    latency_ms: Annotated[int, Field(ge=0, description="Time in the service, without the time the upload took")]
    credits_used: Annotated[int, Field(ge=0, description="0 when this account had the result already")]
    credits_remaining: Annotated[int, Field(ge=0, description="The balance after this request")]
    trace_id: TraceId


class AnalysisAnswer(BaseModel):
    """Six scores; one that the model does not have is left out."""

    model_config = ConfigDict(
        title="Analysis",
        json_schema_extra={
            "examples": [
                {
                    "energy": 82,
                    "danceability": 77,
                    "happiness": 64,
                    "acousticness": 12,
                    "instrumentalness": 4,
                    "speechiness": 3,
                    "_meta": {
                        "id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                        "model": "tunelab-v1",
                        "latency_ms": 214,
                        "credits_used": 5,
                        "credits_remaining": 995,
                        "trace_id": "afa-7a2d9f",
                    },
                }
            ]
        },
    )

    energy: int = _score("How intense and active the music is")
    danceability: int = _score("How well it suits dancing: steady beat, tempo, strength of the beat")
    happiness: int = _score("How positive the mood is (valence), from sad or angry to cheerful")
    acousticness: int = _score("How likely it was played on acoustic instruments, without electronic sound")
    instrumentalness: int = _score("How likely it has no vocals")
    speechiness: int = _score("How much of it is spoken word")
    meta: Annotated[Meta, Field(alias="_meta")]


class Embedding(BaseModel):
    id: ContentId
    model: str
    embedding: Annotated[
        list[float],
        Field(
            min_length=EMBEDDING_SIZE,
            max_length=EMBEDDING_SIZE,
            description="Exact float32 values; of imported tracks, of half precision",
        ),
    ]


class AccountAnswer(BaseModel):
    model_config = ConfigDict(title="Account")

    id: uuid.UUID
    name: str
    tier: Literal["free", "pro"]
    credits: Annotated[int, Field(ge=0)]


class Models(BaseModel):
    default: Annotated[str, Field(description="The model that answers /v1/analyze")]
    models: Annotated[
        list[dict[str, Any]], Field(description="Model cards: data, accuracy of each score with its interval, licence")
    ]


class Tier(BaseModel):
    embedding: Annotated[bool, Field(description="Whether GET /v1/embedding/{id} is included")]


class Limits(BaseModel):
    formats: Annotated[list[str], Field(description="What can be decoded; a file is told by its content")]
    content_types: Annotated[list[str], Field(description="What a request may say its body is")]
    max_upload_bytes: Annotated[int, Field(description="Largest file")]
    min_duration_s: Annotated[float, Field(description="Shortest track, in seconds")]
    max_duration_s: Annotated[float, Field(description="Longest track, in seconds")]
    upload_timeout_s: Annotated[float, Field(description="Longest time that sending a body may take")]
    request_timeout_s: Annotated[float, Field(description="Longest time from the last byte of a body to the answer")]
    analyze_credits: Annotated[int, Field(description="Price of an analysis")]
    timeline_credits: Annotated[int, Field(description="Price of a timeline for each started minute of the track")]
    max_timeline_s: Annotated[float, Field(description="Longest track of which a timeline is made, in seconds")]
    max_concurrent_per_account: Annotated[
        int, Field(description="Analyses, searches, new classifiers of one account at once, in each process")
    ]
    max_classifiers: Annotated[int, Field(description="Classifiers that one account may keep")]
    max_classifier_examples: Annotated[int, Field(description="Labelled tracks that one classifier may learn from")]
    tiers: Annotated[
        dict[Literal["free", "pro"], Tier],
        Field(description="Whether each tier includes embeddings; searches and classifiers are pro, too"),
    ]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: Annotated[str, Field(description="urn:tunelab:problem:{code}; about:blank for an internal error")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="What was wrong, for people")]
    code: Annotated[str, Field(description="What was wrong, for programs; stable")]
    trace_id: TraceId
