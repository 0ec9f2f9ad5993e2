"""What is asked of ``/v1/similar``, and the shape of its answer."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from tunelab.service.schemas import ContentId, TraceId
from tunelab.service.similar import MAX_SEEDS, MAX_TRACKS, Wanted
from tunelab.similarity.ranges import PATTERN, Range
from tunelab.types import HEADS


def _range(value: object) -> Range:
    if not isinstance(value, str):
        raise _refused("a range must be a string such as '60..100'")
    try:
        return Range.parse(value)
    except ValueError as error:
        raise _refused(str(error)) from None


def _head(value: object) -> str:
    if value not in HEADS:
        raise _refused(f"there is no such score; choose from {', '.join(HEADS)}")
    return str(value)


def _refused(reason: str) -> PydanticCustomError:
    # A plain ValueError would be told as "Value error, ...".
    return PydanticCustomError("invalid", "{reason}", {"reason": reason})


def _integer(value: object) -> object:
    # JSON has one kind of numbers: 10.0 is an integer.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _by_head(value: dict[str, Any], **more: Any) -> WithJsonSchema:
    """The schema of an object with a value for some of the heads; pydantic's own does not tell which keys there are."""
    properties = dict.fromkeys(HEADS, value)
    return WithJsonSchema({"type": "object", "properties": properties, "additionalProperties": False, **more})


def _without_default(schema: dict[str, Any]) -> None:
    # What is left out of an answer is optional, but 0 is not its default.
    del schema["default"]


def _score() -> Any:
    return Field(0, ge=0, le=100, json_schema_extra=_without_default)


_RANGE = {"type": "string", "pattern": PATTERN}
_RANGE_IS = "`60..100`, `60..` or `..40`, both ends included"
_POINTS = {"type": "number", "minimum": 0, "maximum": 100}

Head = Annotated[str, PlainValidator(_head)]
ScoreRange = Annotated[Range, PlainValidator(_range)]
Points = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MAX_TRACKS, description="Tracks wanted")]
JsonCount = Annotated[Count, BeforeValidator(_integer)]
OptionalRange = Annotated[
    Range | None,
    PlainValidator(_range),
    WithJsonSchema(_RANGE),
    Field(description=f"Only tracks with a score in this range: {_RANGE_IS}"),
]


class SimilarQuery(BaseModel):
    """The query of the GET; a parameter that is not known would be a filter that is not applied, so it is refused."""

    model_config = ConfigDict(extra="forbid")

    k: Count = 10
    energy: OptionalRange = None
    danceability: OptionalRange = None
    happiness: OptionalRange = None
    acousticness: OptionalRange = None
    instrumentalness: OptionalRange = None
    speechiness: OptionalRange = None

    def wanted(self, content_id: str) -> Wanted:
        """The search that it asks for."""
        filters = {head: wanted for head in HEADS if (wanted := getattr(self, head)) is not None}
        return Wanted((content_id,), filters=filters, k=self.k)


class SimilarRequest(BaseModel):
    """The body of the POST."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "anyOf": [{"required": ["ids"]}, {"required": ["target"]}],
            "examples": [
                {
                    "ids": ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
                    "target": {"energy": 30},
                    "filters": {"speechiness": "..20"},
                    "k": 10,
                }
            ],
        },
    )

    ids: list[ContentId] = Field(
        [],
        min_length=1,
        max_length=MAX_SEEDS,
        description="Tracks to be similar to, all at once",
        json_schema_extra=_without_default,
    )
    target: Annotated[dict[Head, Points], _by_head(_POINTS, minProperties=1)] = Field(
        {}, min_length=1, description="Scores to come near to", json_schema_extra=_without_default
    )
    filters: Annotated[dict[Head, ScoreRange], _by_head(_RANGE)] = Field(
        {}, description=f"Only tracks with scores in these ranges: {_RANGE_IS}", json_schema_extra=_without_default
    )
    k: JsonCount = 10

    def wanted(self) -> Wanted:
        """The search that it asks for; an id that is named twice counts once."""
        target = {head: value / 100 for head, value in self.target.items()}
        return Wanted(tuple(dict.fromkeys(self.ids)), target, self.filters, self.k)


class SimilarTrack(BaseModel):
    """One track; a score that the model does not have is left out."""

    model_config = ConfigDict(title="SimilarTrack")

    id: ContentId
    similarity: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="Cosine to the mean direction of the seeds; left out without seeds",
        json_schema_extra=_without_default,
    )
    off_target: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Mean absolute difference to the target, in points; left out without a target",
        json_schema_extra=_without_default,
    )
    energy: int = _score()
    danceability: int = _score()
    happiness: int = _score()
    acousticness: int = _score()
    instrumentalness: int = _score()
    speechiness: int = _score()
    duration_s: Annotated[float, Field(ge=0, description="Length of the track in seconds")]


class SimilarAnswer(BaseModel):
    model_config = ConfigDict(title="Similar")

    model: Annotated[str, Field(description="The model bundle whose embeddings were compared")]
    seeds: list[ContentId]
    similar: Annotated[list[SimilarTrack], Field(description="Best first; fewer than asked for only where fewer match")]
    trace_id: TraceId
