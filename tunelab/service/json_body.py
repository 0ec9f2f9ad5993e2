"""Reading a JSON body: never past its limit, never for longer than allowed."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from tunelab.service.body import bounded
from tunelab.service.errors import BodyTooLarge, UnsupportedMediaType, UploadTimeout
from tunelab.settings import Settings

JSON = "application/json"
_REASONS = 3
Body = TypeVar("Body", bound=BaseModel)


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """The ``openapi_extra`` of a route that reads its JSON itself."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": model.model_json_schema()}}}}


async def read_json(request: Request, model: type[Body], limit: int, settings: Settings) -> Body:
    """The JSON body of a request. FastAPI's own reading has no bound.

    Raises:
        RequestValidationError: it is not what ``model`` says.
        UnsupportedMediaType, BodyTooLarge, UploadTimeout, ClientDisconnect: as :func:`read_bytes`.
    """
    data = await read_bytes(request, limit, settings)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise refusal(error) from None


async def read_bytes(request: Request, limit: int, settings: Settings) -> bytes:
    """A JSON body as it came.

    Raises:
        UnsupportedMediaType: the Content-Type is another one.
        BodyTooLarge: more than ``limit`` bytes; at most one chunk was read past them, or nothing if the
            Content-Length told.
        UploadTimeout: it did not arrive within ``upload_timeout_s``.
        ClientDisconnect: the client went away.
    """
    if request.headers.get("content-type", JSON).partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaType(f"send the body as {JSON}")
    chunks = bounded(request, limit, BodyTooLarge(f"the body is larger than {limit} bytes"))
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            return b"".join([chunk async for chunk in chunks])
    except TimeoutError:
        raise UploadTimeout(f"the body did not arrive within {settings.upload_timeout_s:g} s") from None
    finally:
        await chunks.aclose()


def refusal(error: ValidationError) -> RequestValidationError:
    """The first faults of a body, with the field that each is in."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    # Below the first field a place holds keys that the client sent, as many as it liked.
    reasons = {(item["loc"][:1], item["msg"]): item["type"] for item in faults}
    return RequestValidationError(
        [{"loc": ("body", *loc), "msg": msg, "type": kind} for (loc, msg), kind in list(reasons.items())[:_REASONS]]
    )
