"""The page at ``/``, the API reference at ``/docs``, and their files. Nothing is loaded from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

# Named here and not guessed: the guesses of the standard library depend on the machine.
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def _load() -> dict[str, _File]:
    found = {}
    for item in files("tunelab.web").iterdir():
        media_type = _TYPES.get(item.name[item.name.rfind(".") :])
        if media_type is not None:
            content = item.read_bytes()
            found[item.name] = _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


_FILES = _load()
_PAGES = {name: file for name, file in _FILES.items() if name.endswith(".html")}
_ASSETS = {name: file for name, file in _FILES.items() if name not in _PAGES}


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    return _serve(_PAGES["index.html"], request)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def reference(request: Request) -> Response:
    return _serve(_PAGES["docs.html"], request)


@router.api_route("/assets/{name}", methods=["GET", "HEAD"])
async def asset(name: str, request: Request) -> Response:
    if name not in _ASSETS:
        raise HTTPException(404)
    return _serve(_ASSETS[name], request)


def _serve(file: _File, request: Request) -> Response:
    # Browsers ask each time and mostly hear that nothing changed: after an update no page meets the scripts of another.
    headers = {"Cache-Control": "no-cache", "ETag": file.etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=f"{file.media_type}; charset=utf-8", headers=headers)
