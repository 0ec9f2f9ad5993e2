"""Scores along a track."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from tunelab.service.body import read_upload
from tunelab.service.deps import CallerDep, ServiceDep
from tunelab.service.middleware import STARTED
from tunelab.service.openapi import problems, upload_body
from tunelab.service.timeline_schemas import TimelineAnswer, TimelineQuery
from tunelab.service.tracing import current_trace_id

router = APIRouter(prefix="/v1", tags=["timeline"])


@router.post(
    "/timeline",
    summary="Scores and sections along a file",
    response_description="The timeline, and what it cost",
    response_model=TimelineAnswer,
    responses=problems(401, 402, 403, 408, 413, 415, 422, 429, 500, 503),
    openapi_extra=upload_body(),
)
async def timeline(
    request: Request, service: ServiceDep, caller: CallerDep, query: Annotated[TimelineQuery, Query()]
) -> Response:
    """Send the file as for `/v1/analyze`. It costs credits for each started minute; the same bytes and step again cost
    nothing. See `/v1/limits` for the price and the longest track.
    """
    with service.analyses.slot(caller.id):
        before = time.perf_counter()
        data = await read_upload(request, service.settings)
        upload_s = time.perf_counter() - before
        result = await service.timelines.timeline(caller.id, data, query.step)
    meta = {
        "id": result.content_id,
        "model": result.model,
        "latency_ms": round(1000 * (time.perf_counter() - request.scope[STARTED] - upload_s)),
        "credits_used": result.charged,
        "credits_remaining": result.balance,
        "trace_id": current_trace_id(),
    }
    return JSONResponse({**result.answer, "_meta": meta})
