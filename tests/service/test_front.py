"""The layer in the proxy: what it refuses unread, what it takes away, and the form of the proxy's own answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.service.support import on_a_socket
from tunelab.service.classifier_schemas import training_body_limit
from tunelab.service.front import FrontMiddleware
from tunelab.settings import load_settings

MB = 1_000_000


class Proxy:
    """As Ray's: reads the whole body at once, whoever wants it; then answers."""

    def __init__(self) -> None:
        self.received = 0
        self.bodies: list[bytes] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.release: asyncio.Event | None = None
        self.status = 200
        self.own = False
        self.reading = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = scope["headers"]
        reader = asyncio.create_task(self._read(receive))
        self.reading.set()
        if self.release is not None:
            await self.release.wait()
        elif scope["path"] != "/endless":
            await reader
        else:
            await asyncio.sleep(0.5)
        headers = [] if self.own else [(b"x-trace-id", b"abc-123456")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"plain text"})
        reader.cancel()

    async def _read(self, receive: Receive) -> None:
        while True:
            message: Message = await receive()
            self.received += len(message.get("body", b""))
            self.bodies.append(message.get("body", b""))
            if not message.get("more_body", False):
                return


def run(scenario: Any, **settings: Any) -> Proxy:
    proxy = Proxy()

    async def main() -> None:
        values = {"max_upload_mb": 1, "max_uploads_mb": 2.5, "max_classifier_examples": 100, **settings}
        front = FrontMiddleware(proxy, load_settings(**values))
        async with on_a_socket(front) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:  # type: ignore[arg-type]
            await scenario(client, proxy)
        assert front._held == 0

    asyncio.run(main())
    return proxy


async def endless(chunks: int = 2000) -> AsyncIterator[bytes]:
    for _ in range(chunks):
        yield bytes(64 * 1024)


def test_a_body_that_says_it_is_too_large_is_answered_unread() -> None:
    async def scenario(client: httpx.AsyncClient, proxy: Proxy) -> None:
        # More than the buffers of the connection hold: the client is still sending when the answer comes.
        answer = await client.post("/", content=bytes(7 * MB))
        assert (answer.status_code, answer.json()["code"]) == (413, "audio_too_large")
        assert answer.headers["x-trace-id"] == answer.json()["trace_id"]
        assert answer.headers["content-type"] == "application/problem+json"

    assert run(scenario).received == 0


def test_a_body_that_does_not_say_is_read_one_chunk_past_the_limit() -> None:
    async def scenario(client: httpx.AsyncClient, proxy: Proxy) -> None:
        # The answer comes while it sends, and the connection is closed on it.
        with suppress(httpx.HTTPError):
            await client.post("/endless", content=endless())

    received = run(scenario).received
    assert MB < received < 1.5 * MB


def test_the_labels_of_a_classifier_may_be_larger_than_a_file() -> None:
    largest = training_body_limit(load_settings(max_classifier_examples=20_000))

    async def parts() -> AsyncIterator[bytes]:
        yield bytes(largest)

    async def scenario(client: httpx.AsyncClient, proxy: Proxy) -> None:
        assert largest > 5 * MB
        assert (await client.post("/", content=bytes(largest))).status_code == 200
        assert (await client.post("/", content=parts())).status_code == 200
        assert proxy.received == 2 * largest
        assert (await client.post("/", content=bytes(largest + 1))).status_code == 413

    run(scenario, max_uploads_mb=10, max_classifier_examples=20_000)


def test_no_body_may_be_larger_than_all_together() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield bytes(MB)

    async def scenario(client: httpx.AsyncClient, proxy: Proxy) -> None:
        # One that does not tell its size has a place, and one that never will is not asked to try again.
        assert (await client.post("/", content=parts())).status_code == 200
        assert (await client.post("/", content=bytes(3 * MB))).status_code == 413

    run(scenario, max_classifier_examples=20_000)


def test_small_parts_are_handed_on_together_and_nothing_is_lost() -> None:
    data = np.random.default_rng(0).bytes(900_000)

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 10_000):
            yield data[start : start + 10_000]

    async def scenario(client: httpx.AsyncClient, proxy: Proxy) -> None:
        assert (await client.post("/", content=parts())).status_code == 200
        assert b"".join(proxy.bodies) == data
        assert len(proxy.bodies) == 1

    run(scenario)


def test_a_client_that_goes_away_is_told_of_after_what_it_sent() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]
    seen: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])

    async def send(message: Message) -> None:
        raise AssertionError("nothing to send")

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    asyncio.run(FrontMiddleware(app, load_settings())(scope, receive, send))
    assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]
    assert seen[0]["body"] == b"half"


def test_all_bodies_together_are_bounded() -> None:
    async def scenario(client: httpx.AsyncClient, proxy: Proxy) -> None:
        proxy.release = asyncio.Event()
        first = [asyncio.create_task(client.post("/", content=bytes(MB))) for _ in range(2)]
        await proxy.reading.wait()
        await asyncio.sleep(0.2)
        refused = await client.post("/", content=bytes(MB))
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        small = asyncio.create_task(client.get("/healthz"))
        await asyncio.sleep(0.1)
        proxy.release.set()
        assert [answer.status_code for answer in await asyncio.gather(*first, small)] == [200, 200, 200]
        assert (await client.post("/", content=bytes(MB))).status_code == 200

    run(scenario)


def test_clients_do_not_steer_the_proxy() -> None:
    async def scenario(client: httpx.AsyncClient, proxy: Proxy) -> None:
        headers = [
            (b"X-Request-Timeout-Seconds", b"0.01"),
            (b"x-request-disconnect-disabled", b"?1"),
            (b"serve_multiplexed_model_id", b"x"),
            (b"Serve-Multiplexed-Model-Id", b"x"),
            (b"X-Strange", b"\xff"),
            (b"Authorization", b"Bearer key"),
        ]
        assert (await client.post("/", headers=headers, content=b"song")).status_code == 200
        seen = {name.lower() for name, _ in proxy.headers}
        assert b"authorization" in seen
        assert not any(b"request-" in name or b"serve" in name or b"strange" in name for name in seen)

    run(scenario)


@pytest.mark.parametrize(("status", "code"), [(408, "timeout"), (503, "overloaded"), (500, "internal_error")])
def test_answers_of_the_proxy_itself_become_problems(status: int, code: str) -> None:
    async def scenario(client: httpx.AsyncClient, proxy: Proxy) -> None:
        proxy.status, proxy.own = status, True
        answer = await client.get("/")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert ("retry-after" in answer.headers) == (status == 503)
        # The service's own pass as they are.
        proxy.own = False
        answer = await client.get("/")
        assert (answer.status_code, answer.text, answer.headers["x-trace-id"]) == (status, "plain text", "abc-123456")

    run(scenario)


def test_its_own_answers_are_in_the_log_with_their_trace_ids(caplog: pytest.LogCaptureFixture) -> None:
    wanted: list[tuple[str, int, str, str]] = []

    async def scenario(client: httpx.AsyncClient, proxy: Proxy) -> None:
        headers = {"Authorization": "Bearer secret"}
        proxy.own = True
        for status, size in ((413, 3 * MB), (408, 1), (503, 1), (500, 1)):
            proxy.status = status
            answer = await client.post("/secret?key=secret", content=bytes(size), headers=headers)
            wanted.append(("POST", status, answer.json()["code"], answer.headers["x-trace-id"]))
        # Those of the service are in its own.
        proxy.own = False
        await client.get("/")

    with caplog.at_level(logging.INFO, "tunelab.service"):
        run(scenario)
    records: list[Any] = [record for record in caplog.records if record.name == "tunelab.service"]
    assert [(each.method, each.status, each.code, each.trace_id) for each in records] == wanted
    assert all(each.trace_id in each.getMessage() for each in records)
    assert [code for _, _, code, _ in wanted] == ["audio_too_large", "timeout", "overloaded", "internal_error"]
    assert "secret" not in " ".join(str(value) for each in records for value in each.__dict__.values())
