"""Uploads: read no further than allowed, for no longer than allowed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.service.support import Api, StartApi, on_a_socket
from tunelab.service.body import declared_length
from tunelab.service.negotiation import prefers

LIMIT = 200_000
CODECS = ("undefined", "punycode", "idna", "utf-7", "rot13", "hex", "no-such-thing", "")
"""What Python knows besides charsets, and what it does not."""


class Counted:
    """A body in chunks of 10 kB, endless unless told otherwise, that knows how much of it was taken."""

    def __init__(self, chunks: int | None = None, head: bytes = b"", pause_s: float = 0.0) -> None:
        self.chunks, self.head, self.pause_s = chunks, head, pause_s
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.head:
            yield self.head
        while self.chunks is None or self.taken < self.chunks * 10_000:
            await asyncio.sleep(self.pause_s)
            self.taken += 10_000
            yield b"x" * 10_000


def part(boundary: str, name: str = "file", filename: str = '; filename="a.mp3"') -> bytes:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode()


def test_declared_length_over_the_limit_is_refused_unread(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        body = Counted()
        headers = {**api.auth(), "Content-Type": "audio/mpeg", "Content-Length": str(LIMIT + 1)}
        answer = await api.client.post("/v1/analyze", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "audio_too_large")
        assert answer.headers["connection"] == "close"
        assert body.taken == 0
        headers["Content-Length"] = "9" * 5000
        assert (await api.client.post("/v1/analyze", content=Counted(), headers=headers)).status_code == 413

    run_api(scenario)


def test_streamed_body_is_read_one_chunk_past_the_limit_at_most(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        body = Counted()
        headers = {**api.auth(), "Content-Type": "audio/mpeg"}
        answer = await api.client.post("/v1/analyze", content=body, headers=headers)
        assert answer.status_code == 413
        assert body.taken <= LIMIT + 10_000
        assert api.pipeline.calls == 0

    run_api(scenario)


def test_exactly_the_limit_is_accepted(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        assert (await api.analyze(b"x" * LIMIT)).status_code == 200
        assert (await api.analyze(b"x" * (LIMIT + 1))).status_code == 413
        files = {"file": ("a.mp3", b"y" * LIMIT)}
        assert (await api.client.post("/v1/analyze", files=files, headers=api.auth())).status_code == 200
        files = {"file": ("a.mp3", b"y" * (LIMIT + 1))}
        assert (await api.client.post("/v1/analyze", files=files, headers=api.auth())).status_code == 413

    run_api(scenario)


def test_streamed_multipart_is_bounded(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        headers = {**api.auth(), "Content-Type": "multipart/form-data; boundary=b"}
        for head in (part("b"), part("b", filename=""), b"", b"--b\r\n" + b"X-A: "):
            body = Counted(head=head)
            answer = await api.client.post("/v1/analyze", content=body, headers=headers)
            assert answer.status_code in (413, 422), head
            assert body.taken <= LIMIT + 64 * 1024 + 10_000

    run_api(scenario)


def test_multipart_that_cannot_be_used(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        kind = "multipart/form-data; boundary=b"
        end = b"\r\n--b--\r\n"
        cases = [
            ("multipart/form-data", b""),
            (kind, b""),
            (kind, b"no multipart at all"),
            (kind, part("b") + b"x"),
            (kind, part("b", name="other") + b"x" + end),
            (kind, part("b", filename="") + b"x" + end),
            (kind, part("b") + b"x\r\n" + part("b") + b"y" + end),
            (kind, part("b") + end),
            ("multipart/form-data; boundary=" + "b" * 5000, b"x"),
            *((f"{kind}; charset={name}", part("b") + b"x" + end) for name in CODECS),
        ]
        for content_type, body in cases:
            headers = {**api.auth(), "Content-Type": content_type}
            answer = await api.client.post("/v1/analyze", content=body, headers=headers)
            assert answer.status_code == 422, (content_type, body, answer.text)
            assert answer.json()["code"] in ("malformed_upload", "audio_empty")
        assert api.pipeline.calls == 0

    run_api(scenario)


def test_multipart_may_name_a_usual_charset(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        for name in ("utf-8", "UTF8", "us-ascii", "iso-8859-1", "latin1"):
            headers = {**api.auth(), "Content-Type": f"multipart/form-data; boundary=b; charset={name}"}
            body = part("b") + name.encode() + b"\r\n--b--\r\n"
            answer = await api.client.post("/v1/analyze", content=body, headers=headers)
            assert answer.status_code == 200, (name, answer.text)

    run_api(scenario)


@pytest.mark.parametrize(
    ("text", "length"),
    [("0", 0), ("12", 12), ("000", 0), ("0" * 30 + "50000000", 50_000_000), ("9" * 40, int("9" * 20)), ("", None)],
)
def test_declared_lengths(text: str, length: int | None) -> None:
    assert declared_length(text) == length
    assert declared_length(text + "x") is None


def test_wrong_content_type_is_refused_unread(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        for name in ("application/x-www-form-urlencoded", "text/plain", "image/png", "audio", "video/x-flv", "", "*/*"):
            body = Counted(chunks=1)
            headers = {**api.auth(), "Content-Type": name}
            answer = await api.client.post("/v1/analyze", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), name
            assert body.taken == 0

    run_api(scenario)


def test_without_a_key_nothing_is_read(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        body = Counted(chunks=1)
        answer = await api.client.post("/v1/analyze", content=body, headers={"Content-Type": "audio/mpeg"})
        assert answer.status_code == 401
        assert body.taken == 0

    run_api(scenario)


def test_empty_body(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.analyze(b"")
        assert (answer.status_code, answer.json()["code"]) == (422, "audio_empty")

    run_api(scenario)


def test_slow_upload_is_a_408_and_upload_time_is_no_latency(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        headers = {**api.auth(), "Content-Type": "audio/mpeg"}
        slow = await api.client.post("/v1/analyze", content=Counted(pause_s=0.2), headers=headers)
        assert (slow.status_code, slow.json()["code"]) == (408, "upload_timeout")
        fine = await api.client.post("/v1/analyze", content=Counted(chunks=2, pause_s=0.15), headers=headers)
        assert fine.json()["_meta"]["latency_ms"] < 250

    run_api(scenario, upload_timeout_s=0.5)


def test_over_a_real_socket(start_api: StartApi) -> None:
    """The same under uvicorn: chunked bodies, oversized ones, and clients that vanish in the middle of one."""

    async def main() -> None:
        async with (
            start_api() as api,
            on_a_socket(api.app) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            headers = {**api.auth(), "Content-Type": "audio/mpeg"}
            answer = await client.post("/v1/analyze", content=Counted(chunks=3), headers=headers)
            assert answer.status_code == 200
            assert (await client.post("/v1/analyze", content=b"x" * 30_000, headers=headers)).status_code == 200
            too_long = await client.post("/v1/analyze", content=b"x" * (LIMIT + 1), headers=headers)
            assert too_long.status_code == 413
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            request = f"POST /v1/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: {api.auth()['Authorization']}\r\n"
            writer.write(f"{request}Content-Length: 1000\r\n\r\nhalf of it".encode())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.2)
            account = await client.get("/v1/account", headers=headers)
            assert account.json()["credits"] == 95

    asyncio.run(main())
    assert threading.active_count() < 20


def test_accept_header() -> None:
    raw, json = "application/octet-stream", "application/json"
    assert prefers(raw, raw, over=json)
    assert prefers(f"{raw}, {json};q=0.5", raw, over=json)
    assert prefers(f"{json};q=0.2, application/*;q=0.9", raw, over=json)
    for other in (None, "*/*", json, "", "text/html", f"{raw};q=0", f"{raw};q=x", f"{raw}, {json}"):
        assert not prefers(other, raw, over=json)
