"""Accounts, models, limits, health."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from tunelab.service.body import CONTENT_TYPES
from tunelab.service.deps import CallerDep, ServiceDep
from tunelab.service.errors import NotReady
from tunelab.service.openapi import problems
from tunelab.service.schemas import AccountAnswer, Health, Limits, Models, Tier

FORMATS = ("mp3", "flac", "wav", "aiff", "ogg vorbis", "ogg opus", "m4a (aac)", "webm")

_READY_TIMEOUT_S = 2.0

router = APIRouter(prefix="/v1", tags=["about"])
health = APIRouter(tags=["health"])


@router.get(
    "/account",
    summary="The account of the key",
    response_description="The account",
    responses=problems(401, 403, 500, 503),
)
async def account(caller: CallerDep) -> AccountAnswer:
    """Name, tier and the credits that are left."""
    return AccountAnswer.model_validate(
        {"id": caller.id, "name": caller.name, "tier": caller.tier, "credits": caller.balance}
    )


@router.get(
    "/models",
    summary="The models and how far they can be trusted",
    response_description="Model cards",
    responses=problems(500),
)
async def models(service: ServiceDep) -> Models:
    """Model cards. Public."""
    return Models(default=service.pipeline.model, models=[dict(card) for card in service.cards])


@router.get(
    "/limits",
    summary="What may be sent, and what it costs",
    response_description="Limits and prices",
    responses=problems(500),
)
async def limits(service: ServiceDep) -> Limits:
    """Formats, sizes, times in seconds, prices in credits. Public."""
    settings = service.settings
    return Limits(
        formats=list(FORMATS),
        content_types=list(CONTENT_TYPES),
        max_upload_bytes=settings.max_upload_bytes,
        min_duration_s=settings.min_duration_s,
        max_duration_s=settings.max_duration_s,
        upload_timeout_s=settings.upload_timeout_s,
        request_timeout_s=settings.request_timeout_s,
        analyze_credits=settings.analyze_credits,
        timeline_credits=settings.timeline_credits,
        max_timeline_s=min(settings.max_timeline_s, settings.max_duration_s),
        max_concurrent_per_account=settings.max_concurrent_per_account,
        max_classifiers=settings.max_classifiers,
        max_classifier_examples=settings.max_classifier_examples,
        tiers={"free": Tier(embedding=False), "pro": Tier(embedding=True)},
    )


@health.get("/healthz", summary="The process runs", response_description="It does", responses=problems(500))
async def healthz() -> Health:
    """For liveness probes: says nothing about the database or the pipeline."""
    return Health()


@health.get(
    "/readyz",
    summary="A request sent now would be answered",
    response_description="It would",
    responses=problems(500, 503),
)
async def readyz(service: ServiceDep) -> Health:
    """For load balancers: the database answers and every stage of the pipeline is up."""
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            database, pipeline = await asyncio.gather(service.database.ping(), service.pipeline.ready())
    except TimeoutError:
        raise NotReady(f"no word from the parts within {_READY_TIMEOUT_S:g} s") from None
    missing = [name for name, up in (("database", database), ("pipeline", pipeline)) if not up]
    if missing:
        raise NotReady(f"not ready: {' and '.join(missing)}")
    return Health()
