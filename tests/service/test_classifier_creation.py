"""What asking for a classifier may cost the others: places, refusals that come early, and work off the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.orm import Session

from tests.service.classifier_support import QUICK, Start, add_tracks, get, post, until
from tests.service.support import Api, FakePipeline
from tunelab.service import classifier_request, classifiers
from tunelab.service.accounts import create_account
from tunelab.service.app import create_app
from tunelab.service.classifier_schemas import ClassifierRequest
from tunelab.settings import load_settings

IDS = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(3000)]


async def send(api: Api, body: Any, account: str = "pro") -> httpx.Response:
    headers = {**api.auth(account), "Content-Type": "application/json"}
    return await api.client.post("/v1/classifiers", content=body, headers=headers)


def test_one_too_many_is_429_before_its_body_is_read(run_api: Any, session: Session, child: Start) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        api.keys["other"] = create_account(session, "other", tier="pro", credits=0)[1]
        labels, theirs = add_tracks(session, "pro", 8), add_tracks(session, "other", 8)
        release, pulled = asyncio.Event(), asyncio.Semaphore(0)
        asked = 0

        async def stalled(name: str) -> AsyncIterator[bytes]:
            nonlocal asked
            asked += 1
            yield b'{"name": "%s", ' % name.encode()
            pulled.release()
            await release.wait()
            yield b'"labels": %s}' % json.dumps(labels).encode()

        running = [asyncio.create_task(send(api, stalled(f"n{number}"))) for number in range(2)]
        for _ in running:
            await pulled.acquire()
        refused = await send(api, stalled("n2"))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert "at most 2 creations of classifiers" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "1"
        assert asked == 2
        # Others are not kept waiting by bodies that do not come, nor are the account's own requests of other kinds.
        assert (await post(api, "theirs", theirs, "other")).status_code == 202
        assert (await get(api, "")).status_code == 200
        release.set()
        assert [answer.status_code for answer in await asyncio.gather(*running)] == [202, 202]
        assert (await post(api, "n3", labels)).status_code == 202

    run_api(scenario, max_concurrent_per_account=2)


def test_the_event_loop_does_none_of_the_work(
    run_api: Any, session: Session, child: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(QUICK)
    seen: dict[str, set[int]] = {}

    def watch(module: Any, name: str) -> None:
        real = getattr(module, name)

        def called(*arguments: Any) -> Any:
            seen.setdefault(f"{module.__name__}.{name}", set()).add(threading.get_ident())
            return real(*arguments)

        monkeypatch.setattr(module, name, called)

    for name in ("from_json", "to_json"):
        watch(classifier_request, name)
    for name in ("from_mapping", "targets", "to_json"):
        watch(classifiers, name)

    async def scenario(api: Api) -> None:
        labels = {**add_tracks(session, "pro", 8), **dict.fromkeys(IDS, "a")}
        created = await post(api, "genre", labels)
        assert created.status_code == 202
        assert created.json()["unknown"] == IDS
        assert len(seen) == 5
        for name, threads in seen.items():
            assert threading.get_ident() not in threads, name
        await until(api, "genre", "ready")

    run_api(scenario)


def test_what_is_refused_anyway_is_refused_before_the_labels_are_looked_at(
    run_api: Any, session: Session, child: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        assert (await post(api, "genre", add_tracks(session, "pro", 8))).status_code == 202
        monkeypatch.setattr(classifiers.Classifiers, "_known", None)
        unknown = dict.fromkeys(IDS[:10], "a")
        assert (await post(api, "genre", unknown)).json()["code"] == "conflict"
        assert (await post(api, "another", unknown)).json()["code"] == "limit_reached"

    run_api(scenario, max_classifiers=1)


def test_labels_are_validated_a_few_at_a_time_and_none_is_forgotten() -> None:
    labels = {key: ["a", "b", "c"][: number % 4] if number % 5 else "a" for number, key in enumerate(IDS)}
    pieces = list(classifier_request._pieces({"name": "x", "labels": labels}))
    assert len(pieces) > 10
    assert {key: value for piece in pieces for key, value in piece["labels"].items()} == labels
    for piece in pieces:
        assert piece["name"] == "x"
        assert (
            sum(1 + len(value) * isinstance(value, list) for value in piece["labels"].values())
            < classifier_request._STEP + 4
        )
    body = classifier_request.validated(json.dumps({"name": "x", "labels": labels}).encode())
    assert body == ClassifierRequest(name="x", labels=labels)
    assert list(body.labels) == IDS
    last = json.dumps({"name": "x", "labels": {**labels, "last": "a"}})
    with pytest.raises(RequestValidationError, match="should match pattern"):
        classifier_request.validated(last.encode())


def test_half_a_million_faults_are_told_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = classifier_request.to_json

    def to_json(piece: Any) -> bytes:
        sizes.append(len(piece["labels"]) + len(piece))
        return real(piece)

    monkeypatch.setattr(classifier_request, "to_json", to_json)
    many = {f"{number}": number for number in range(20_000)}
    for body in ({"name": "x", "labels": many}, {"name": "x", "labels": {IDS[0]: "a"}, **many}):
        with pytest.raises(RequestValidationError) as caught:
            classifier_request.validated(json.dumps(body).encode())
        assert 1 <= len(caught.value.errors()) <= 3
    assert len(sizes) == 2
    assert max(sizes) < 2 * classifier_request._STEP


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        '{"name": "\\ud800"}',
        "null",
        "[]",
        "[1, 2]",
        "{}",
        '{"name": "x"}',
        '{"labels": {}}',
        '{"name": 5, "labels": 5}',
        '{"name": "X", "labels": []}',
        '{"name": "x", "labels": null}',
        '{"name": "x", "labels": {"a": "b"}}',
        '{"name": "x", "labels": {"ID": 1e999}}',
        '{"name": "x", "labels": {"ID": 123456789012345678901234567890}}',
        '{"name": "x", "labels": {"ID": DEEP}}',
        '{"name": "x", "labels": {"ID": {"a": []}}}',
        '{"name": "x", "labels": {"ID": ""}}',
        '{"name": "x", "labels": {"ID": "a\\u0000b"}}',
        '{"name": "x", "labels": {"ID": MANY}}',
        '{"name": "x", "labels": {"ID": "a"}, "more": 1}',
        '{"name": "x", "labels": {"ID": "a"}, "name": "Y"}',
    ],
)
def test_faults_are_told_as_elsewhere(body: str) -> None:
    for name, value in (("ID", IDS[0]), ("DEEP", 150 * "[" + 150 * "]"), ("MANY", json.dumps(201 * ["a"]))):
        body = body.replace(name, value)
    with pytest.raises(ValidationError) as expected:
        ClassifierRequest.model_validate_json(body)
    with pytest.raises(RequestValidationError) as caught:
        classifier_request.validated(body.encode())
    told = {(item["loc"], item["msg"], item["type"]) for item in caught.value.errors()}
    assert told == {(("body", *item["loc"][:1]), item["msg"], item["type"]) for item in expected.value.errors()}


def test_the_reference_says_so() -> None:
    paths = create_app(FakePipeline, load_settings()).openapi()["paths"]
    assert "429" in paths["/v1/classifiers"]["post"]["responses"]
