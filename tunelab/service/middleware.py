"""The outermost layer: trace id, security headers, one log line a request, and the answer to what nobody expected."""

from __future__ import annotations

import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunelab.service.problems import internal_problem
from tunelab.service.tracing import logger, new_trace_id, set_trace_id

STARTED = "tunelab.started"
"""Key in the scope: ``time.perf_counter()`` when the request came in."""
ACCOUNT = "tunelab.account"
"""Key in the scope: id of the account, once it is known."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

CLIENT_CLOSED = 499
"""Written in the log for a request whose client went away; never sent."""


class TraceMiddleware:
    """Pure ASGI, so that it sees bodies stream by, and cancellations, without touching them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        scope[STARTED] = started
        trace_id = new_trace_id()
        set_trace_id(trace_id)
        status = CLIENT_CLOSED

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Trace-Id"] = trace_id
                headers.setdefault("Cache-Control", "no-store")
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_traced)
        except Exception:
            logger.exception("request failed")
            if status != CLIENT_CLOSED:  # half an answer is out: only breaking the connection tells the client
                raise
            await internal_problem()(scope, receive, send_traced)
        finally:
            logger.info("%s %s %d", scope["method"], _route(scope), status, extra=_fields(scope, status, started))


def _route(scope: Scope) -> str:
    # The template and not the address: an address is whatever a client cares to put there.
    return str(getattr(scope.get("route"), "path", "unrouted"))


def _fields(scope: Scope, status: int, started: float) -> dict[str, Any]:
    return {
        "account": scope.get(ACCOUNT),
        "method": scope["method"],
        "route": _route(scope),
        "status": status,
        "duration_ms": round(1000 * (time.perf_counter() - started), 1),
    }
