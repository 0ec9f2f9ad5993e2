"""The one table from errors to answers: RFC 9457 ``application/problem+json`` with a stable ``code``."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from tunelab import errors
from tunelab.errors import TuneLabError
from tunelab.service import errors as service
from tunelab.service.tracing import current_trace_id, logger

PROBLEM = "application/problem+json"

STATUS: Mapping[type[TuneLabError], int] = {
    service.Unauthorized: 401,
    service.InsufficientCredits: 402,
    service.TierRequired: 403,
    service.AccountDisabled: 403,
    service.NotFound: 404,
    service.Conflict: 409,
    service.LimitReached: 409,
    service.UploadTimeout: 408,
    errors.PipelineTimeout: 408,
    errors.AudioTooLarge: 413,
    service.BodyTooLarge: 413,
    service.UnsupportedMediaType: 415,
    # The bytes are what is wrong, and sending them again does not help. That holds for DecodeTimeout too: the limit is
    # on decoding this file, and a client told 408 would rightly repeat the request.
    errors.AudioError: 422,
    service.MalformedUpload: 422,
    errors.ClassifierError: 422,
    errors.TimelineUnsupported: 422,
    service.TooManyRequests: 429,
    errors.PipelineError: 503,
    # Asking again would not help: no Retry-After.
    errors.PipelineFailed: 500,
    service.NotReady: 503,
    service.DatabaseUnavailable: 503,
}
"""Status of an error class and of the classes below it that have no line of their own; anything else is 500."""

RETRY_AFTER_S: Mapping[int, int] = {429: 1, 503: 2}
"""Seconds until another try makes sense, sent as ``Retry-After``."""

TITLES: Mapping[int, str] = {
    401: "No valid key",
    402: "Out of credits",
    403: "Not included",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Not possible now",
    413: "Too large",
    415: "Media type not supported",
    422: "Cannot be analysed",
    429: "Too many requests",
    500: "Internal error",
    503: "Try again later",
}

_HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
_INTERNAL = "something went wrong on our side; the trace id helps to find it"


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem answer; ``detail`` is for people and must hold no path, key or file name."""
    content = {
        "type": "about:blank" if code == "internal_error" else f"urn:tunelab:problem:{code}",
        "title": TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "trace_id": current_trace_id(),
    }
    extra = dict(headers or {})
    if status in RETRY_AFTER_S:
        extra.setdefault("Retry-After", str(RETRY_AFTER_S[status]))
    if status == 401:
        extra["WWW-Authenticate"] = 'Bearer realm="tunelab"'
    if code in ("audio_too_large", "body_too_large", "upload_timeout"):
        # The rest of the body is still on its way and nobody will read it.
        extra["Connection"] = "close"
    return JSONResponse(content, status, extra, media_type=PROBLEM)


def status_of(error_class: type[BaseException]) -> int:
    """Status for an error class, by the nearest class in its method resolution order that the table lists."""
    for parent in error_class.__mro__:
        if parent in STATUS:
            return STATUS[parent]
    return 500


def problem_for(error: BaseException) -> Response:
    """The answer to an exception; the text of one that is not in the table stays inside."""
    # Ray raises a class made of its own RayTaskError and the class of the cause. Its text is a remote stack trace, so
    # only the cause may speak.
    cause = getattr(error, "cause", None)
    if isinstance(cause, TuneLabError):
        error = cause
    status = status_of(type(error))
    if status == 500 or not isinstance(error, TuneLabError):
        return internal_problem()
    return problem(status, error.code, str(getattr(error, "message", "")) or TITLES[status])


def internal_problem() -> Response:
    """The answer to an exception nobody expected."""
    return problem(500, "internal_error", _INTERNAL)


async def _on_tunelab_error(request: Request, error: Exception) -> Response:
    answer = problem_for(error)
    if answer.status_code == 500:
        logger.error("request failed", exc_info=error)
    return answer


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this class only
    status = error.status_code
    detail = {404: "there is nothing at this address", 405: "this address does not take that method"}.get(status)
    code = _HTTP_CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))
    headers = {"Allow": _allowed(request)} if status == 405 else error.headers
    return problem(status, code, detail or HTTPStatus(status).phrase, headers)


def _allowed(request: Request) -> str:
    """All methods of an address: the framework names those of the first of its routes only."""
    allowed = (
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    )
    return ", ".join(allowed)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this class only
    # Names and reasons only: the refused value is the client's and is not echoed.
    reasons = {f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()}
    return problem(422, "invalid_request", "; ".join(sorted(reasons)))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return problem(400, "client_disconnected", "the connection was closed before the body was complete")


def install_handlers(app: FastAPI) -> None:
    """Make every error of ``app`` a problem; what is in no handler ends in the trace middleware."""
    app.add_exception_handler(TuneLabError, _on_tunelab_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
