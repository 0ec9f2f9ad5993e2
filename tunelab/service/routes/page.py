"""The page at ``/``, the API reference at ``/docs``, and their files. Nothing is loaded from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_ASSETS = {
    item.name: (item.read_bytes(), _TYPES[suffix])
    for item in files("tunelab.web").iterdir()
    if (suffix := item.name[item.name.rfind(".") :]) in _TYPES
}


@router.api_route("/", methods=["GET", "HEAD"])
async def index() -> Response:
    return _serve("index.html")


@router.api_route("/docs", methods=["GET", "HEAD"])
async def reference() -> Response:
    return _serve("docs.html")


@router.api_route("/assets/{name}", methods=["GET", "HEAD"])
async def asset(name: str) -> Response:
    return _serve(name)


def _serve(name: str) -> Response:
    if name not in _ASSETS:
        raise HTTPException(404)
    content, media_type = _ASSETS[name]
    return Response(content, media_type=f"{media_type}; charset=utf-8", headers={"Cache-Control": "no-cache"})
