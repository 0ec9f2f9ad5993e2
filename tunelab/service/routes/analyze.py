"""Analyses and what was stored of them."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from tunelab.service.body import read_upload
from tunelab.service.deps import CallerDep, ProCallerDep, ServiceDep, TrackId
from tunelab.service.errors import NotFound
from tunelab.service.middleware import STARTED
from tunelab.service.negotiation import prefers
from tunelab.service.openapi import problems, upload_body
from tunelab.service.schemas import AnalysisAnswer, Embedding
from tunelab.service.store import Result
from tunelab.service.tracing import current_trace_id
from tunelab.types import percent

router = APIRouter(prefix="/v1", tags=["analysis"])

RAW = "application/octet-stream"


@router.post(
    "/analyze",
    summary="Analyse a file",
    response_description="The scores, and what the analysis cost",
    response_model=AnalysisAnswer,
    responses=problems(401, 402, 403, 408, 413, 415, 422, 429, 500, 503),
    openapi_extra=upload_body(),
)
async def analyze(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Send the file as the body, or as multipart in the field `file`. The same bytes again cost nothing."""
    # The place is held here and not by a dependency: those end after the answer is sent, and a client that sends its
    # next request at once would be refused.
    with service.analyses.slot(caller.id):
        before = time.perf_counter()
        data = await read_upload(request, service.settings)
        upload_s = time.perf_counter() - before
        result = await service.analyses.analyze(caller.id, data)
    return JSONResponse(_answer(result, request, upload_s))


@router.get(
    "/analyze/{id}",
    summary="A stored analysis again",
    response_description="The scores as they were stored",
    response_model=AnalysisAnswer,
    responses=problems(401, 403, 404, 422, 500, 503),
)
async def stored_analysis(id: TrackId, request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Free. The result of the current model or, if there is none, the newest of an earlier one."""
    found = await service.store.latest(caller.id, id, service.pipeline.model, service.pipeline.revision)
    if found is None:
        raise _unknown()
    return JSONResponse(_answer(found[0], request))


@router.get(
    "/embedding/{id}",
    summary="The embedding of an analysed file (pro)",
    response_model=Embedding,
    responses={
        200: {
            "description": "768 numbers; with `Accept: application/octet-stream` as 3072 bytes, little-endian float32",
            "content": {RAW: {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems(401, 403, 404, 422, 500, 503),
    },
)
async def embedding(id: TrackId, request: Request, service: ServiceDep, caller: ProCallerDep) -> Response:
    """Free for accounts of the tier `pro`. The numbers are exactly those that the scores were read from; of
    imported tracks they are rounded to half precision."""
    found = await service.store.latest(caller.id, id, service.pipeline.model, service.pipeline.revision)
    if found is None:
        raise _unknown()
    result, vector = found
    headers = {"Vary": "Accept"}
    if prefers(request.headers.get("accept"), RAW, over="application/json"):
        return Response(vector.tobytes(), media_type=RAW, headers={**headers, "X-Model": result.model})
    # The shortest decimal that is this float32: half as long as its digits as a double.
    numbers = [float(str(value)) for value in vector]
    return JSONResponse({"id": result.content_id, "model": result.model, "embedding": numbers}, headers=headers)


def _answer(result: Result, request: Request, upload_s: float = 0.0) -> dict[str, Any]:
    in_service_s = time.perf_counter() - request.scope[STARTED] - upload_s
    meta = {
        "id": result.content_id,
        "model": result.model,
        "latency_ms": round(1000 * in_service_s),
        "credits_used": result.charged,
        "credits_remaining": result.balance,
        "trace_id": current_trace_id(),
    }
    return {**percent(result.scores), "_meta": meta}


def _unknown() -> NotFound:
    return NotFound("this account has no result with that id")
