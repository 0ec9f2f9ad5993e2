"""Classifiers over HTTP: from labels to predictions, whose they are, and their limits."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from tests.service.classifier_support import QUICK, Start, add_tracks, ask, get, post, until
from tests.service.support import Api
from tunelab.service.accounts import create_account
from tunelab.service.classifier_schemas import training_body_limit
from tunelab.service.tables import LedgerEntry
from tunelab.settings import load_settings


def test_from_labels_to_predictions(run_api: Any, session: Session, child: Start) -> None:
    """With the real training process."""
    child(None)

    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 60, classes=3)
        stranger = "f" * 64
        created = await post(api, "genre", {**labels, stranger: "a"})
        assert created.status_code == 202
        assert created.headers["location"] == "/v1/classifiers/genre"
        assert (created.json()["status"], created.json()["unknown"]) == ("queued", [stranger])
        assert (await ask(api, "genre", [stranger])).json()["code"] == "conflict"
        state = await until(api, "genre", "ready", "failed")
        assert state["error"] is None
        report = state["report"]
        assert report["n"] == {"train": 39, "validation": 9, "test": 12}
        assert (report["left_out"], report["classes"]) == (0, ["a", "b", "c"])
        assert report["accuracy"]["value"] == 1.0 > report["baseline"]["accuracy"]
        listed = (await get(api, "")).json()["classifiers"]
        assert [item["name"] for item in listed] == ["genre"]
        assert "report" not in listed[0]
        ids = list(labels)
        answer = (await ask(api, "genre", [ids[5], stranger, ids[0], ids[5]])).json()
        assert [item["id"] for item in answer["predictions"]] == [ids[5], ids[0]]
        assert [item["label"] for item in answer["predictions"]] == [labels[ids[5]], labels[ids[0]]]
        assert (answer["unknown"], answer["current"], answer["revision"]) == ([stranger], True, "1")
        for item in answer["predictions"]:
            assert sum(item["probabilities"].values()) == pytest.approx(1, abs=2e-4)
            assert max(item["probabilities"], key=item["probabilities"].get) == item["label"]
        assert await api.credits("pro") == 100

    run_api(scenario)
    assert session.scalar(select(func.count()).select_from(LedgerEntry).where(LedgerEntry.delta < 0)) == 0


def test_several_labels_a_track(run_api: Any, session: Session, child: Start) -> None:
    child(None)

    async def scenario(api: Api) -> None:
        labels: dict[str, list[str]] = {key: [name] for key, name in add_tracks(session, "pro", 60, 3).items()}
        both = {key: [*names, "quiet"] if names != ["a"] else [] for key, names in labels.items()}
        assert (await post(api, "tags", both)).json()["kind"] == "multilabel"
        state = await until(api, "tags", "ready", "failed")
        assert state["report"]["classes"] == ["b", "c", "quiet"]
        assert set(state["report"]["confusion"]) == {"tp", "fp", "fn", "tn"}
        answer = (await ask(api, "tags", list(both))).json()
        assert {item["id"]: item["labels"] for item in answer["predictions"]} == both

    run_api(scenario)


def test_what_others_have_is_not_there(run_api: Any, session: Session, child: Start) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        api.keys["other"] = create_account(session, "other", tier="pro", credits=0)[1]
        labels = add_tracks(session, "pro", 8)
        assert (await post(api, "mine", labels)).status_code == 202
        await until(api, "mine", "ready")
        assert (await get(api, "", "other")).json() == {"classifiers": []}
        deleted = await api.client.delete("/v1/classifiers/mine", headers=api.auth("other"))
        for answer in (
            await get(api, "/mine", "other"),
            await ask(api, "mine", list(labels), "other"),
            deleted,
            await post(api, "mine", labels, "other"),  # nor are tracks
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        theirs = add_tracks(session, "other", 8)
        assert (await post(api, "mine", theirs, "other")).status_code == 202
        answer = (await ask(api, "mine", [*labels, *theirs])).json()
        assert answer["unknown"] == list(theirs)
        for refused in (await post(api, "x", labels, "free"), await get(api, "", "free"), await get(api, "/x", "free")):
            assert (refused.status_code, refused.json()["code"]) == (403, "tier_required")
        assert (await api.client.get("/v1/classifiers")).status_code == 401

    run_api(scenario)


def test_names_are_taken_once_unless_it_failed(run_api: Any, session: Session, child: Start) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 8)
        answers = await asyncio.gather(*(post(api, "genre", labels) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409, 409]
        await until(api, "genre", "ready")
        assert (await post(api, "genre", labels)).json()["code"] == "conflict"
        session.execute(text("UPDATE classifiers SET status = 'failed', error = 'it was', weights = NULL"))
        session.commit()
        assert (await get(api, "/genre")).json()["error"] == "it was"
        assert (await ask(api, "genre", list(labels))).json()["code"] == "conflict"
        assert (await post(api, "genre", labels)).status_code == 202
        assert (await until(api, "genre", "ready"))["error"] is None
        assert (await api.client.delete("/v1/classifiers/genre", headers=api.auth("pro"))).status_code == 204
        assert (await get(api, "/genre")).status_code == 404

    run_api(scenario)


def test_limits(run_api: Any, session: Session, child: Start) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 10)
        answers = await asyncio.gather(*(post(api, f"number-{number}", labels) for number in range(4)))
        assert sorted(answer.status_code for answer in answers) == [202, 202, 409, 409]
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"limit_reached"}
        more = {**labels, "e" * 64: "a"}
        assert (await post(api, "big", more)).json()["code"] == "classifier_invalid"
        assert (await ask(api, "number-0", ["a" * 64] * 1001)).status_code == 422

    run_api(scenario, max_classifiers=2, max_classifier_examples=10)


def test_bodies_are_bounded(run_api: Any) -> None:
    limit = training_body_limit(load_settings(max_classifier_examples=10))
    taken = 0

    async def long() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 50_000_000:
            taken += 1000
            yield b" " * 1000

    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async def scenario(api: Api) -> None:
        headers = {**api.auth("pro"), "Content-Type": "application/json"}
        for path in ("", "/x/predict"):
            send = lambda body, path=path, **more: api.client.post(  # noqa: E731
                f"/v1/classifiers{path}", content=body, headers={**headers, **more}
            )
            for body in (b" " * 10_000_000, long()):
                answer = await send(body)
                assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
                assert answer.headers["connection"] == "close"
            assert (await send(stuck())).status_code == 408
            wrong = {"Content-Type": "text/plain"}
            assert (await send(b"{}", **wrong)).status_code == 415
            for body in (b"", b"{", b"[" * 100_0, b'{"a":' * 1000, b"\xff", b"null", b"{}", b'{"name": "\\ud800"}'):
                refused = await send(body)
                assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request"), body
        # Just as much as is allowed is read, and refused for what it says.
        assert (await api.client.post("/v1/classifiers", content=b" " * limit, headers=headers)).status_code == 422

    run_api(scenario, max_classifier_examples=10, upload_timeout_s=0.5)
    assert taken < 3 * limit + 300_000


def test_requests_that_make_no_sense(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 8)
        one = next(iter(labels))
        ways: list[tuple[dict[str, Any], str]] = [
            ({"name": "Big", "labels": labels}, "name"),
            ({"name": "-x", "labels": labels}, "name"),
            ({"name": "x" * 65, "labels": labels}, "name"),
            ({"name": "x", "labels": {}}, "labels"),
            ({"name": "x", "labels": {"secret" * 9000: "a"}}, "labels"),
            ({"name": "x", "labels": {**labels, one: "secret\n" * 300}}, "labels"),
            ({"name": "x", "labels": {**labels, one: ""}}, "labels"),
            ({"name": "x", "labels": {**labels, one: ["a", 5]}}, "labels"),
            ({"name": "x", "labels": labels, "secret": 1}, "secret"),
        ]
        for body, place in ways:
            answer = await api.client.post("/v1/classifiers", json=body, headers=api.auth("pro"))
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
            assert place in answer.json()["detail"]
            assert len(answer.content) < 1000
            assert place == "secret" or "secret" not in answer.text
        for path in ("/UPPER", "/" + "x" * 65):
            assert (await get(api, path)).status_code == 422
        same = dict.fromkeys(labels, "a")
        few = {**same, one: "b"}
        for given, message in (
            (same, "at least 2 classes"),
            (few, "'b' (1)"),
            ({**few, "e" * 64: "b"}, "1 of the ids"),
        ):
            answer = await post(api, "x", given)
            assert (answer.status_code, answer.json()["code"]) == (422, "classifier_invalid")
            assert message in answer.json()["detail"]
        assert (await get(api, "")).json() == {"classifiers": []}

    run_api(scenario)


def test_a_classifier_keeps_to_its_revision(run_api: Any, session: Session, child: Start) -> None:
    child(QUICK)

    async def scenario(api: Api) -> None:
        labels = add_tracks(session, "pro", 8)
        await post(api, "genre", labels)
        await until(api, "genre", "ready")
        api.pipeline.revision = "2"
        await api.analyze(b"newer", "pro")
        newer = hashlib.sha256(b"newer").hexdigest()
        answer = (await ask(api, "genre", [*labels, newer])).json()
        assert len(answer["predictions"]) == 8
        assert (answer["unknown"], answer["revision"], answer["current"]) == ([newer], "1", False)
        assert (await get(api, "/genre")).json()["current"] is False
        assert (await post(api, "next", labels)).status_code == 404  # these are to be analysed again first

    run_api(scenario)


def test_ten_thousand_labels_fit_the_default_limit() -> None:
    labels = {hashlib.sha256(str(number).encode()).hexdigest(): ["lo-fi hip hop", "phonk"] for number in range(20_000)}
    body = json.dumps({"name": "genre", "labels": labels})
    assert len(body) < training_body_limit(load_settings())
