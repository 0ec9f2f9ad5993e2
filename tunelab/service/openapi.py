"""The OpenAPI document: what FastAPI makes of the routes, and what it cannot know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tunelab import __version__
from tunelab.service.body import CONTENT_TYPES, FILE_FIELD, MULTIPART
from tunelab.service.problems import PROBLEM, RETRY_AFTER_S, TITLES
from tunelab.service.schemas import Problem

_DESCRIPTION = """Send a track, get six scores from 0 to 100 and, on the tier `pro`, the 768 numbers behind them.

Every answer carries its trace id in the header `X-Trace-Id`. Errors are `application/problem+json` (RFC 9457) with a
stable `code`. A failure costs no credits, and neither does a file that was analysed before.
"""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer with problems of these statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"description": TITLES[status], "content": {PROBLEM: {"schema": schema}}} for status in statuses}


def upload_body() -> dict[str, Any]:
    """The ``openapi_extra`` of a route that takes a file; FastAPI must not read the body, so it cannot document it."""
    raw = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
    form = {
        "schema": {
            "type": "object",
            "properties": {FILE_FIELD: {"type": "string", "format": "binary", "minLength": 1}},
            "required": [FILE_FIELD],
        }
    }
    content = {name: form if name == MULTIPART else raw for name in CONTENT_TYPES}
    return {"requestBody": {"required": True, "description": "The file", "content": content}}


def install_openapi(app: FastAPI) -> None:
    """Give ``app`` its document."""
    app.openapi = _builder(app)  # type: ignore[method-assign]  # the way FastAPI documents


def _builder(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    return build


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title="TuneLab", version=__version__, description=_DESCRIPTION, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own shape of 422, which is never sent
        schemas.pop(unused, None)
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                response["headers"] = _headers(int(status))
    return document


def _headers(status: int) -> dict[str, Any]:
    headers = {"X-Trace-Id": {"schema": {"type": "string"}, "required": True}}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}, "required": True}
    if status in RETRY_AFTER_S:
        headers["Retry-After"] = {"schema": {"type": "integer"}, "required": True}
    return headers
