"""Similar tracks in the account's own catalogue."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse, Response

from tunelab.service.deps import ProCallerDep, ServiceDep, TrackId
from tunelab.service.json_body import json_body, read_json
from tunelab.service.openapi import problems
from tunelab.service.similar import Neighbour, SimilarTracks, Wanted
from tunelab.service.similar_schemas import SimilarAnswer, SimilarQuery, SimilarRequest
from tunelab.service.store import Caller
from tunelab.service.tracing import current_trace_id
from tunelab.types import percent

router = APIRouter(prefix="/v1", tags=["similar"])

BODY_LIMIT = 64 * 1024


@router.get(
    "/similar/{id}",
    summary="Tracks similar to one (pro)",
    response_description="The nearest of the account's tracks",
    response_model=SimilarAnswer,
    responses=problems(401, 403, 404, 422, 429, 500, 503),
)
async def similar_to_one(
    id: TrackId, query: Annotated[SimilarQuery, Query()], service: ServiceDep, caller: ProCallerDep
) -> Response:
    """Free for accounts of the tier `pro`. Searches the account's own results of the current model."""
    return await _answer(service, caller, query.wanted(id))


@router.post(
    "/similar",
    summary="Tracks similar to several, or near to target scores (pro)",
    response_description="The nearest of the account's tracks",
    response_model=SimilarAnswer,
    responses=problems(401, 403, 404, 408, 413, 415, 422, 429, 500, 503),
    openapi_extra=json_body(SimilarRequest),
)
async def similar(request: Request, service: ServiceDep, caller: ProCallerDep) -> Response:
    """Free for accounts of the tier `pro`. Searches the account's own results of the current model.

    With `ids`, tracks near to the mean direction of their embeddings; with `target`, tracks near to those scores; with
    both, near is a small sum of cosine distance and mean difference to the target (100 points count as 1).
    """
    body = await read_json(request, SimilarRequest, BODY_LIMIT, service.settings)
    wanted = body.wanted()
    if not wanted.ids and not wanted.target:
        raise RequestValidationError([{"loc": ("body",), "msg": "send ids, or a target, or both", "type": "missing"}])
    return await _answer(service, caller, wanted)


async def _answer(service: ServiceDep, caller: Caller, wanted: Wanted) -> Response:
    pipeline = service.pipeline
    async with service.searches.one(caller.id):
        found = await SimilarTracks(service.database).find(caller.id, pipeline.model, pipeline.revision, wanted)
    return JSONResponse(
        {
            "model": pipeline.model,
            "seeds": list(wanted.ids),
            "similar": [_track(track) for track in found],
            "trace_id": current_trace_id(),
        }
    )


def _track(track: Neighbour) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": track.content_id}
    if track.similarity is not None:
        answer["similarity"] = round(track.similarity, 4)
    if track.off_target is not None:
        answer["off_target"] = round(100 * track.off_target, 2)
    return {**answer, **percent(track.scores), "duration_s": round(track.duration_s, 3)}
