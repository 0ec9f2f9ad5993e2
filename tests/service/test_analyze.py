"""The way of a file through the API when all goes well."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import httpx
import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.service.support import Api, FakePipeline, fake_analysis
from tunelab.service.tables import LedgerEntry, Track
from tunelab.types import HEADS

SONG = b"not really a song"
SONG_ID = hashlib.sha256(SONG).hexdigest()


def test_answer_is_exactly_the_documented_one(run_api: Any) -> None:
    async def scenario(api: Api) -> httpx.Response:
        return await api.analyze(SONG)

    answer = run_api(scenario)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == [*HEADS, "_meta"]
    assert {head: body[head] for head in HEADS} == fake_analysis(SONG).percent()
    assert all(type(body[head]) is int for head in HEADS)
    meta = body["_meta"]
    assert list(meta) == ["id", "model", "latency_ms", "credits_used", "credits_remaining", "trace_id"]
    assert meta["id"] == SONG_ID
    assert meta["model"] == "fake-v1"
    assert type(meta["latency_ms"]) is int
    assert (meta["credits_used"], meta["credits_remaining"]) == (5, 95)
    assert re.fullmatch("[0-9a-f]{3}-[0-9a-f]{6}", meta["trace_id"])
    assert answer.headers["x-trace-id"] == meta["trace_id"]


def test_same_bytes_are_computed_and_charged_once(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        first = (await api.analyze(SONG)).json()
        again = (await api.analyze(SONG)).json()
        stored = (await api.client.get(f"/v1/analyze/{SONG_ID}", headers=api.auth())).json()
        for other in (again, stored):
            assert {head: other[head] for head in HEADS} == {head: first[head] for head in HEADS}
            assert other["_meta"]["credits_used"] == 0
            assert other["_meta"]["credits_remaining"] == 95
        assert api.pipeline.calls == 1
        # Another account pays for itself, and cannot see the first one's results.
        assert (await api.client.get(f"/v1/analyze/{SONG_ID}", headers=api.auth("pro"))).status_code == 404
        assert (await api.analyze(SONG, "pro")).json()["_meta"]["credits_used"] == 5
        assert api.pipeline.calls == 2

    run_api(scenario)
    entries = session.scalars(select(LedgerEntry).where(LedgerEntry.reason == "analyze")).all()
    assert [(entry.delta, entry.balance_after, entry.content_id) for entry in entries] == [(-5, 95, SONG_ID)] * 2
    assert all(entry.trace_id and entry.model == "fake-v1" for entry in entries)


def test_new_model_is_a_new_result_and_the_current_one_is_preferred(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        await api.analyze(SONG)
        api.pipeline.model = "fake-v2"
        stored = await api.client.get(f"/v1/analyze/{SONG_ID}", headers=api.auth())
        assert stored.json()["_meta"]["model"] == "fake-v1"
        fresh = (await api.analyze(SONG)).json()["_meta"]
        assert (fresh["model"], fresh["credits_used"]) == ("fake-v2", 5)
        stored = await api.client.get(f"/v1/analyze/{SONG_ID}", headers=api.auth())
        assert stored.json()["_meta"]["model"] == "fake-v2"

    run_api(scenario)


def test_better_weights_under_the_same_name_are_a_new_result(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        await api.analyze(SONG)
        api.pipeline.revision = "2"
        stored = await api.client.get(f"/v1/analyze/{SONG_ID}", headers=api.auth())
        assert stored.status_code == 200
        assert (await api.analyze(SONG)).json()["_meta"]["credits_used"] == 5
        assert (await api.analyze(SONG)).json()["_meta"]["credits_used"] == 0
        assert api.pipeline.calls == 2

    run_api(scenario)


def test_multipart_is_the_same_file(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.client.post(
            "/v1/analyze",
            data={"note": "ignored"},
            files={"file": ("song.mp3", SONG, "audio/mpeg")},
            headers=api.auth(),
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["_meta"]["id"] == SONG_ID
        assert (await api.analyze(SONG)).json()["_meta"]["credits_used"] == 0

    run_api(scenario)


def test_content_types(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        for name in ("audio/flac", "AUDIO/MPEG; rate=44100", "video/mp4", "video/webm", "application/ogg"):
            assert (await api.analyze(SONG, **{"Content-Type": name})).status_code == 200, name
        without = await api.client.post("/v1/analyze", content=SONG, headers=api.auth())
        assert without.status_code == 200

    run_api(scenario)


def test_missing_heads_are_left_out(run_api: Any, monkeypatch: Any) -> None:
    async def scenario(api: Api) -> None:
        whole = fake_analysis(SONG)
        scores = {head: whole.scores[head] for head in HEADS if head != "happiness"}

        async def analyze(self: FakePipeline, data: bytes) -> Any:
            return type(whole)(scores, whole.embedding, whole.duration_s, whole.model)

        monkeypatch.setattr(FakePipeline, "analyze", analyze)
        expected = [head for head in HEADS if head != "happiness"] + ["_meta"]
        assert list((await api.analyze(SONG)).json()) == expected
        stored = await api.client.get(f"/v1/analyze/{SONG_ID}", headers=api.auth())
        assert list(stored.json()) == expected

    run_api(scenario)


def test_embedding_is_exact_and_for_pro_only(run_api: Any, session: Session) -> None:
    expected = fake_analysis(SONG).embedding

    async def scenario(api: Api) -> None:
        await api.analyze(SONG)
        await api.analyze(SONG, "pro")
        path = f"/v1/embedding/{SONG_ID}"
        refused = await api.client.get(path, headers=api.auth())
        assert (refused.status_code, refused.json()["code"]) == (403, "tier_required")
        body = (await api.client.get(path, headers=api.auth("pro"))).json()
        assert list(body) == ["id", "model", "embedding"]
        np.testing.assert_array_equal(np.array(body["embedding"], np.float32), expected)
        raw = await api.client.get(path, headers={**api.auth("pro"), "Accept": "application/octet-stream"})
        assert raw.headers["content-type"] == "application/octet-stream"
        np.testing.assert_array_equal(np.frombuffer(raw.content, "<f4"), expected)
        missing = await api.client.get(f"/v1/embedding/{'0' * 64}", headers=api.auth("pro"))
        assert missing.status_code == 404

    run_api(scenario)
    halves = session.scalars(select(Track.embedding)).first()
    np.testing.assert_allclose(halves, expected, atol=2e-3)


def test_unrounded_scores_are_stored(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        await api.analyze(SONG)

    run_api(scenario)
    track = session.scalars(select(Track)).one()
    assert {head: getattr(track, head) for head in HEADS} == fake_analysis(SONG).scores
    assert track.duration_s == 123.4


def test_information(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        account = (await api.client.get("/v1/account", headers=api.auth("pro"))).json()
        assert (account["name"], account["tier"], account["credits"]) == ("pro", "pro", 100)
        models = (await api.client.get("/v1/models")).json()
        assert models["default"] == "fake-v1"
        assert models["models"][0]["heads"]["energy"]["r"] == 0.9
        limits = (await api.client.get("/v1/limits")).json()
        assert limits["max_upload_bytes"] == 200_000
        assert limits["analyze_credits"] == 5
        assert (await api.client.get("/healthz")).json() == {"status": "ok"}
        assert (await api.client.get("/readyz")).status_code == 200
        api.pipeline.is_ready = False
        waiting = await api.client.get("/readyz")
        assert (waiting.status_code, waiting.json()["code"]) == (503, "not_ready")
        assert waiting.headers["retry-after"]
        assert (await api.client.get("/healthz")).status_code == 200

    run_api(scenario)


def test_restart_keeps_everything(run_api: Any) -> None:
    async def before(api: Api) -> dict[str, Any]:
        return dict((await api.analyze(SONG)).json())

    async def after(api: Api) -> dict[str, Any]:
        return dict((await api.analyze(SONG)).json())

    first, second = run_api(before), run_api(after)
    assert second["_meta"]["credits_used"] == 0
    assert second["_meta"]["credits_remaining"] == 95
    assert {head: first[head] for head in HEADS} == {head: second[head] for head in HEADS}
