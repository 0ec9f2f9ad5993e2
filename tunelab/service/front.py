"""What must hold before a request is handed on: how much of all bodies is held, and which headers may pass.

Ray Serve's proxy reads a body as fast as it comes, whether or not a replica wants it. This layer goes into the proxy
(``deployments/front.py``): an upload that will be refused is not read, and an answer of the proxy itself has the form
of the others.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunelab.errors import AudioTooLarge, PipelineOverloaded, PipelineTimeout, TuneLabError
from tunelab.service.body import ENVELOPE_BYTES, declared_length
from tunelab.service.classifier_schemas import training_body_limit
from tunelab.service.problems import internal_problem, problem_for
from tunelab.service.tracing import logger, new_trace_id, set_trace_id
from tunelab.settings import Settings

_STEERING = frozenset({"x-request-timeout-seconds", "x-request-disconnect-disabled", "serve-multiplexed-model-id"})
"""Headers with which a client could tell Ray Serve what to do; with hyphens or underscores."""
_PART_BYTES = 1 << 20
_DRAIN_BYTES, _DRAIN_S = 8_000_000, 2.0
"""Of a refused body so much is still taken: a client that is cut off while it sends often never sees the answer."""


class FrontMiddleware:
    """Pure ASGI, one for all requests of a proxy.

    Args:
        app: what is behind.
        settings: ``max_upload_bytes`` bounds one body, or the labels of ``max_classifier_examples`` if they are more;
            ``max_uploads_bytes`` all that are held at the same time. Which of the two is on its way, and how large it
            may be, the service knows.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._limit = settings.max_upload_bytes
        self._places = settings.max_uploads_bytes
        # What no place can be found for is not worth another try, and one of unknown size must find one.
        self._largest = min(max(self._limit + ENVELOPE_BYTES, training_body_limit(settings)), self._places)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size = _declared(scope)
        if size is not None and size > self._largest:
            await _refuse(AudioTooLarge(f"the file is larger than {self._limit} bytes"), scope, receive, send)
            return
        # A body of unknown size may become as large as any.
        need = self._largest if size is None else size
        if self._held + need > self._places:
            await _refuse(PipelineOverloaded("too many uploads at this moment; try again"), scope, receive, send)
            return
        self._held += need
        try:
            scope = {**scope, "headers": [pair for pair in scope["headers"] if _passes(pair[0], pair[1])]}
            await self.app(scope, _bounded(receive, self._largest), _in_our_form(scope, receive, send))
        finally:
            self._held -= need


def _declared(scope: Scope) -> int | None:
    """Bytes of the body, as the headers say; ``None``: they do not."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return None
    # The server has refused a length that is no number.
    return declared_length(headers.get("content-length", "0"))


def _passes(name: bytes, value: bytes) -> bool:
    try:
        # Ray decodes all of them, and stumbles over what is not UTF-8.
        text = name.decode().lower().replace("_", "-")
        value.decode()
    except UnicodeDecodeError:
        return False
    return text not in _STEERING


def _bounded(receive: Receive, largest: int) -> Receive:
    """Stops reading after ``largest`` bytes: whoever gets the one message beyond refuses, and nobody needs more.

    Hands on parts of :data:`_PART_BYTES`: each message costs the proxy and the replica more than its bytes do, and the
    server makes them of 64 kB.
    """
    received = 0
    waiting: list[Message] = []

    async def bounded() -> Message:
        nonlocal received
        if waiting:
            return waiting.pop()
        if received > largest:
            await asyncio.get_running_loop().create_future()  # until the answer is out and this is cancelled
        parts: list[bytes] = []
        size, more = 0, True
        while more and size < _PART_BYTES and received <= largest:
            message = await receive()
            if message["type"] != "http.request":
                if not parts:
                    return message
                waiting.append(message)
                break
            body, more = message.get("body", b""), message.get("more_body", False)
            parts.append(body)
            size += len(body)
            received += len(body)
        return {"type": "http.request", "body": b"".join(parts), "more_body": more}

    return bounded


def _in_our_form(scope: Scope, receive: Receive, send: Send) -> Send:
    """Replaces errors of the proxy itself, which are plain text, by problems; answers of the service pass."""
    replaced = False

    async def sending(message: Message) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] in (408, 500, 503):
            replaced = "x-trace-id" not in Headers(raw=message["headers"])
            if replaced:
                await _answer(_meant(message["status"]), scope, receive, send)
        if not replaced:
            await send(message)

    return sending


def _meant(status: int) -> TuneLabError | None:
    if status == 408:
        return PipelineTimeout("no answer within the time allowed; try again")
    if status == 503:
        return PipelineOverloaded("every place is taken; try again in a moment")
    return None


async def _refuse(error: TuneLabError, scope: Scope, receive: Receive, send: Send) -> None:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.body":
            # The server closes the connection after the last part of an answer, and what it has not read by then makes
            # that a reset, which takes the answer with it.
            await send({**message, "more_body": True})
            await _drain(receive)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send(message)

    await _answer(error, scope, receive, sending)


async def _drain(receive: Receive) -> None:
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while taken < _DRAIN_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                taken += len(message.get("body", b""))


async def _answer(error: TuneLabError | None, scope: Scope, receive: Receive, send: Send) -> None:
    trace_id = new_trace_id()
    set_trace_id(trace_id)
    answer = internal_problem() if error is None else problem_for(error)
    headers = MutableHeaders(raw=answer.raw_headers)
    headers["X-Trace-Id"] = trace_id
    headers["Connection"] = "close"
    # The service has no line with this trace id. Proxies of `serve run` print text, whose form shows no fields.
    method, status, code = scope["method"], answer.status_code, "internal_error" if error is None else error.code
    fields = {"method": method, "status": status, "code": code}
    logger.info("%s answered in the proxy: %d %s (trace id %s)", method, status, code, trace_id, extra=fields)
    await answer(scope, receive, send)
