"""Who may ask for similar tracks, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from tests.service.similar_support import SEED, get, ids_of, post
from tests.service.support import Api, StartApi
from tunelab.service import similar


def test_who_may_ask(run_api: Any, add: Any) -> None:
    async def scenario(api: Api) -> None:
        add("free")
        for answer in (await get(api, account="free"), await post(api, account="free", ids=[SEED])):
            assert (answer.status_code, answer.json()["code"]) == (403, "tier_required")
        for method, path in (("GET", f"/v1/similar/{SEED}?energy=x"), ("POST", "/v1/similar")):
            answer = await api.client.request(method, path, content=b"{")
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")

    run_api(scenario)


@pytest.mark.parametrize(
    "query",
    [
        {"k": 0},
        {"k": 101},
        {"k": "ten"},
        {"k": ""},
        {"energy": "70..60"},
        {"energy": "60"},
        {"energy": ".."},
        {"energy": ""},
        {"energy": "0..101"},
        {"energy": "nan..nan"},
        {"tempo": "60..100"},
        {"enrgy": "60..100"},
        {"target": "1"},
    ],
)
def test_queries_that_make_no_sense(run_api: Any, query: dict[str, Any]) -> None:
    async def scenario(api: Api) -> None:
        answer = await get(api, **query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert next(iter(query)) in answer.json()["detail"]

    run_api(scenario)


BAD_BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'{"k": 10}',
    b'{"ids": []}',
    b'{"ids": "%s"}' % SEED.encode(),
    b'{"ids": ["short"]}',
    b'{"ids": [1]}',
    b'{"ids": null}',
    b'{"ids": ["%s"], "k": 0}' % SEED.encode(),
    b'{"ids": ["%s"], "k": 101}' % SEED.encode(),
    b'{"ids": ["%s"], "k": "10"}' % SEED.encode(),
    b'{"ids": ["%s"], "k": 10.5}' % SEED.encode(),
    b'{"ids": ["%s"], "k": true}' % SEED.encode(),
    b'{"ids": ["%s"], "more": 1}' % SEED.encode(),
    b'{"ids": ["%s"], "filters": {"tempo": "60.."}}' % SEED.encode(),
    b'{"ids": ["%s"], "filters": {"energy": "70..60"}}' % SEED.encode(),
    b'{"ids": ["%s"], "filters": {"energy": 60}}' % SEED.encode(),
    b'{"ids": ["%s"], "filters": {"energy": null}}' % SEED.encode(),
    b'{"ids": ["%s"], "filters": []}' % SEED.encode(),
    b'{"target": {}}',
    b'{"target": {"energy": NaN}}',
    b'{"target": {"energy": Infinity}}',
    b'{"target": {"energy": -1}}',
    b'{"target": {"energy": 100.5}}',
    b'{"target": {"energy": "50"}}',
    b'{"target": {"energy": true}}',
    b'{"target": {"tempo": 50}}',
    b'{"target": {"\\ud800": 50}}',
    b'{"target": {"energy": 1e999}}',
    b'{"\xff": 1}',
    b"[" * 30_000,
    b"{%s}" % b",".join(b'"%d": 1' % number for number in range(6000)),
]


def test_bodies_that_make_no_sense(run_api: Any) -> None:
    many = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(11)]

    async def scenario(api: Api) -> None:
        headers = {**api.auth("pro"), "Content-Type": "application/json"}
        for body in BAD_BODIES:
            answer = await api.client.post("/v1/similar", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), body[:80]
            assert len(answer.content) < 1000, body[:80]
        assert (await post(api, ids=many)).status_code == 422
        assert "ids" in (await post(api, ids=many)).json()["detail"]
        assert (await post(api, ids=many[:10])).status_code == 404
        assert (await post(api, ids=many[:1], k=10.0)).status_code == 404  # JSON knows one kind of numbers

    run_api(scenario)


def test_bodies_are_read_no_further_than_allowed(run_api: Any) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 8192
            yield b" " * 8192

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async def scenario(api: Api) -> None:
        headers = {**api.auth("pro"), "Content-Type": "application/json; charset=utf-8"}
        answer = await api.client.post("/v1/similar", content=endless(), headers=headers)
        assert answer.status_code == 413
        assert taken <= 64 * 1024 + 8192
        slow = await api.client.post("/v1/similar", content=never(), headers=headers)
        assert (slow.status_code, slow.json()["code"]) == (408, "upload_timeout")
        for name in ("text/plain", "audio/mpeg", "multipart/form-data", ""):
            wrong = await api.client.post("/v1/similar", content=b"{}", headers={**headers, "Content-Type": name})
            assert (wrong.status_code, wrong.json()["code"]) == (415, "unsupported_media_type"), name

    run_api(scenario, upload_timeout_s=0.5)


def test_database_that_is_gone_is_a_503(start_api: StartApi, add: Any, database: URL, server: URL) -> None:
    admin = create_engine(server.set(database="postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT")

    async def main() -> None:
        async with start_api() as api:
            add("pro", 5)
            assert ids_of(await get(api))
            find = similar._embeddings

            async def lose(*arguments: Any) -> Any:
                found = await find(*arguments)
                with admin.connect() as connection:
                    connection.execute(text(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS false"))
                    kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
                    connection.execute(kill, {"name": database.database})
                return found

            # In the middle of a search, and before one.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(similar, "_embeddings", lose)
                answers = [await get(api)]
            answers.append(await get(api))
            with admin.connect() as connection:
                connection.execute(text(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS true"))
            for answer in answers:
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
                assert answer.headers["retry-after"]
            assert ids_of(await get(api))

    asyncio.run(main())
    admin.dispose()
