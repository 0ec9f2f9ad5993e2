"""The API against its own description."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, assume
from hypothesis import settings as hypothesis_settings
from sqlalchemy.orm import Session

from tests.service.support import Api, FakePipeline, StartApi, on_a_socket
from tunelab.service import accounts
from tunelab.service.app import create_app
from tunelab.settings import load_settings

SONG = b"not really a song"
SONG_ID = hashlib.sha256(SONG).hexdigest()
SOME_ID = re.compile("[0-9a-f]{64}")


@pytest.fixture
def live(start_api: StartApi, session: Session) -> Iterator[tuple[str, str]]:
    """The service on a socket, in a thread, with a pro key and one analysed song; its address and the key."""
    started, stop = threading.Event(), threading.Event()
    found: dict[str, str] = {}

    async def main() -> None:
        async with start_api() as api, on_a_socket(api.app) as port:
            await api.analyze(SONG, "pro")
            found.update(key=api.keys["pro"], url=f"http://127.0.0.1:{port}")
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert started.wait(30)
    accounts.grant_credits(session, accounts.find_account(session, "pro"), 10**9, "schemathesis")
    session.commit()
    yield found["url"], found["key"]
    stop.set()
    thread.join()


@schemathesis.serializer("audio/*", "video/mp4", "video/webm", "application/ogg")
def as_it_is(ctx: schemathesis.SerializationContext, value: Any) -> Any:
    return value if isinstance(value, bytes) else getattr(value, "data", str(value).encode())


CONFIG = {"generation": {"max-examples": 20, "deterministic": True, "database": "none", "mode": "all"}}
SCHEMA = schemathesis.openapi.from_dict(
    create_app(FakePipeline, load_settings()).openapi(), config=schemathesis.Config.from_dict(CONFIG)
)


def is_sent(value: Any) -> bool:
    """Whether a parameter of this value reaches the address: lists and objects of nothing do not."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inside is None or any(map(is_sent, inside))


def is_orderly(value: Any) -> bool:
    """Whether ranges such as ``60..100`` begin below their ends, which a schema's pattern cannot say."""
    if isinstance(value, dict):
        return all(map(is_orderly, value.values()))
    low, dots, high = str(value).partition("..")
    return not (dots and low.isdigit() and high.isdigit()) or int(low) <= int(high)


@SCHEMA.parametrize()
@hypothesis_settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_schemathesis_finds_nothing(case: schemathesis.Case, live: tuple[str, str]) -> None:
    url, key = live
    # An unknown parameter that is not sent is no fault of the request.
    assume(all(map(is_sent, (case.query or {}).values())))
    assume(is_orderly(case.query or {}))
    assume(is_orderly(case.body) if isinstance(case.body, dict) else True)
    # Well-formed ids become that of an analysed song, so that answers other than 404 are seen too.
    if SOME_ID.fullmatch(str(case.path_parameters.get("id"))):
        case.path_parameters["id"] = SONG_ID
    case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {key}"})


def test_document(run_api: Any) -> None:
    async def scenario(api: Api) -> dict[str, Any]:
        return dict((await api.client.get("/openapi.json")).json())

    document = run_api(scenario)
    assert set(document["paths"]) == {
        "/v1/analyze",
        "/v1/analyze/{id}",
        "/v1/timeline",
        "/v1/embedding/{id}",
        "/v1/similar",
        "/v1/similar/{id}",
        "/v1/classifiers",
        "/v1/classifiers/{name}",
        "/v1/classifiers/{name}/predict",
        "/v1/models",
        "/v1/limits",
        "/v1/account",
        "/healthz",
        "/readyz",
    }
    post = document["paths"]["/v1/analyze"]["post"]
    assert post["security"] == [{"key": []}]
    assert set(post["responses"]) == {"200", *map(str, (401, 402, 403, 408, 413, 415, 422, 429, 500, 503))}
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"]


def test_pages(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        for path in ("/", "/docs"):
            page = await api.client.get(path)
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert (await api.client.head(path)).status_code == 200
            # Nothing from elsewhere, nothing inline: the policy would block it.
            assert not re.search(
                r"""(src|href)=["'](https?:)?//|<script(?! src=)|<style|\son\w+=|\sstyle=""", page.text
            )
            assets = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text)
            assert assets
            for asset in assets:
                answer: httpx.Response = await api.client.get(asset)
                assert answer.status_code == 200, asset
                assert answer.headers["content-type"].startswith(("text/css", "text/javascript", "image/svg"))

    run_api(scenario)
