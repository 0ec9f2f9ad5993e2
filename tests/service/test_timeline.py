"""Timelines over HTTP: what is answered, what is charged, and what is refused before anything is computed."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.service.support import Api, StartApi, fake_timeline
from tests.service.test_concurrency import ledger_adds_up
from tunelab.errors import PipelineOverloaded, TimelineUnsupported
from tunelab.service.tables import Account, LedgerEntry, StoredTimeline
from tunelab.service.timelines import TimelineStore, affordable_s, price_of
from tunelab.timeline.answer import to_json
from tunelab.types import HEADS

SONG = b"not really a song"
SONG_ID = hashlib.sha256(SONG).hexdigest()


def test_answer_is_exactly_the_documented_one(run_api: Any) -> None:
    async def scenario(api: Api) -> httpx.Response:
        return await api.timeline(SONG, step=10)

    answer = run_api(scenario)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["start_s", "end_s", *HEADS, "sections", "track", "_meta"]
    assert body["start_s"][:3] == [0.0, 10.0, 20.0]
    assert body["end_s"][-2:] == [120.0, 123.4]
    for head in HEADS:
        assert len(body[head]) == len(body["start_s"]) == len(body["end_s"]) == 13
        assert body[head][1] is None
        assert body[head][0] == body["track"][head] == round(100 * fake_timeline(SONG, 10).track[head])
        assert all(type(points) is int for points in body[head] if points is not None)
    assert body["sections"] == [
        {"start_s": 0.0, "end_s": 60.5, "label": "A"},
        {"start_s": 60.5, "end_s": 123.4, "label": None},
    ]
    meta = body["_meta"]
    assert list(meta) == ["id", "model", "latency_ms", "credits_used", "credits_remaining", "trace_id"]
    assert (meta["id"], meta["model"]) == (SONG_ID, "fake-v1")
    # 123.4 s are three started minutes.
    assert (meta["credits_used"], meta["credits_remaining"]) == (15, 85)
    assert answer.headers["x-trace-id"] == meta["trace_id"]


def test_a_second_time_it_is_read_and_not_computed(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        first = (await api.timeline(SONG)).json()
        again = await api.timeline(SONG, step=5.0)
        assert list(again.json()) == list(first)
        assert list(again.json()["sections"][0]) == list(first["sections"][0])
        assert {**again.json(), "_meta": None} == {**first, "_meta": None}
        assert again.json()["_meta"]["credits_used"] == 0
        assert again.json()["_meta"]["credits_remaining"] == 85
        assert api.pipeline.timelines == 1
        # Another step, another account, other weights: each is another timeline.
        assert (await api.timeline(SONG, step=6)).json()["_meta"]["credits_used"] == 15
        assert (await api.timeline(SONG, "pro")).json()["_meta"]["credits_used"] == 15
        api.pipeline.revision = "2"
        assert (await api.timeline(SONG)).json()["_meta"]["credits_used"] == 15
        assert (await api.timeline(SONG)).json()["_meta"]["credits_used"] == 0
        assert api.pipeline.timelines == 4
        # An analysis is something else.
        assert (await api.analyze(SONG)).json()["_meta"]["credits_used"] == 5

    run_api(scenario)
    entries = session.scalars(select(LedgerEntry).where(LedgerEntry.reason == "timeline")).all()
    assert [(entry.delta, entry.content_id, entry.model) for entry in entries] == [(-15, SONG_ID, "fake-v1")] * 4
    assert all(entry.trace_id for entry in entries)
    rows = session.scalars(select(StoredTimeline).order_by(StoredTimeline.id)).all()
    assert [(row.step_s, row.revision) for row in rows] == [(5.0, "1"), (6.0, "1"), (5.0, "1"), (5.0, "2")]
    assert rows[0].answer == to_json(fake_timeline(SONG, 5.0))
    assert rows[0].duration_s == 123.4
    assert ledger_adds_up(session)


PRICES = [(1.0, 7), (59.99, 7), (60.0, 7), (60.01, 14), (240.0, 28)]


def test_every_started_minute_counts(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        for number, (duration_s, price) in enumerate(PRICES):
            api.pipeline.duration_s = duration_s
            assert (await api.timeline(b"song %d" % number)).json()["_meta"]["credits_used"] == price
        api.pipeline.duration_s = 1200.0
        assert (await api.timeline(SONG)).json()["code"] == "insufficient_credits"

    run_api(scenario, timeline_credits=7)


@pytest.mark.parametrize(("duration_s", "price"), PRICES)
def test_a_balance_covers_exactly_what_its_price_is(duration_s: float, price: int) -> None:
    assert price_of(duration_s, 7) == price
    assert affordable_s(price, 7) >= duration_s > affordable_s(price - 1, 7)


def test_free_of_charge_has_no_limit_by_balance(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        api.pipeline.duration_s = 1200.0
        meta = (await api.timeline(SONG)).json()["_meta"]
        assert (meta["credits_used"], meta["credits_remaining"]) == (0, 100)

    run_api(scenario, timeline_credits=0)


def test_who_cannot_pay_is_refused_before_the_encoder_works(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        refused = await api.timeline(SONG)  # three minutes, and the balance covers two
        assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
        assert "2 minutes" in refused.json()["detail"]
        assert api.pipeline.timelines == 0
        api.pipeline.duration_s = 119.0
        assert (await api.timeline(SONG)).json()["_meta"]["credits_remaining"] == 20
        # Now it does not cover a single one: not even the length is looked at.
        api.pipeline.duration_s = 10_000.0
        refused = await api.timeline(b"another song")
        assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
        # What was paid for stays free.
        assert (await api.timeline(SONG)).json()["_meta"]["credits_used"] == 0
        assert api.pipeline.timelines == 1

    run_api(scenario, timeline_credits=40)
    assert ledger_adds_up(session)


def test_balance_that_melts_meanwhile_is_told_and_nothing_is_stored(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        async def spend(data: bytes) -> None:
            api.pipeline.behaviour = None
            for number in range(18):
                await api.analyze(b"song %d" % number)

        api.pipeline.behaviour = spend
        refused = await api.timeline(SONG)
        assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
        assert await api.credits() == 10

    run_api(scenario)
    assert session.scalar(select(func.count()).select_from(StoredTimeline)) == 0
    assert ledger_adds_up(session)


def test_a_track_that_is_too_long_is_told_the_limit(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        refused = await api.timeline(SONG)
        assert (refused.status_code, refused.json()["code"]) == (422, "audio_too_long")
        assert "100 s" in refused.json()["detail"]
        assert await api.credits() == 100
        assert api.pipeline.timelines == 0

    run_api(scenario, max_timeline_s=100)


def test_at_once_is_one_computation_and_one_charge(run_api: Any, session: Session) -> None:
    async def slow(data: bytes) -> None:
        await asyncio.sleep(0.1)

    async def scenario(api: Api) -> None:
        api.pipeline.behaviour = slow
        answers = await asyncio.gather(*(api.timeline(SONG) for _ in range(5)))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert sorted(answer.json()["_meta"]["credits_used"] for answer in answers) == [0] * 4 + [15]
        assert {answer.json()["_meta"]["credits_remaining"] for answer in answers} == {85}
        assert api.pipeline.timelines == 1

    run_api(scenario)
    assert ledger_adds_up(session)


def test_in_two_processes_at_once_is_one_charge(start_api: StartApi, session: Session) -> None:
    async def main() -> None:
        barrier = asyncio.Barrier(2)

        async def meet(data: bytes) -> None:
            await barrier.wait()

        async with start_api() as one, start_api() as two:
            one.pipeline.behaviour = meet
            answers = await asyncio.gather(one.timeline(SONG), two.timeline(SONG))
            assert sorted(answer.json()["_meta"]["credits_used"] for answer in answers) == [0, 15]
            assert await one.credits() == 85

    asyncio.run(main())
    assert ledger_adds_up(session)


def test_a_client_that_leaves(run_api: Any, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is computed: nothing is charged. While it is stored: there is a result, and it is paid."""
    saving = asyncio.Event()
    save = TimelineStore.save

    async def slow_save(self: TimelineStore, *args: Any) -> Any:
        saving.set()
        await asyncio.sleep(0.2)
        return await save(self, *args)

    monkeypatch.setattr(TimelineStore, "save", slow_save)

    async def leave(api: Api, begun: asyncio.Event) -> None:
        request = asyncio.create_task(api.timeline(SONG))
        await begun.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    async def scenario(api: Api) -> None:
        computing = asyncio.Event()

        async def wait(data: bytes) -> None:
            computing.set()
            await asyncio.Event().wait()

        api.pipeline.behaviour = wait
        await leave(api, computing)
        assert await api.credits() == 100
        api.pipeline.behaviour = None
        await leave(api, saving)
        again = await api.timeline(SONG)
        assert again.json()["_meta"]["credits_used"] == 0
        assert await api.credits() == 85
        assert api.pipeline.timelines == 2

    run_api(scenario)
    assert ledger_adds_up(session)


def test_steps(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        for step in ("0.99", "30.1", "0", "-5", "nan", "inf", "five", ""):
            refused = await api.timeline(SONG, step=step)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request"), step
        assert await api.credits() == 100
        assert (await api.timeline(SONG, stepp=5)).json()["code"] == "invalid_request"
        for step in ("1", "30", "2.5"):
            assert (await api.timeline(SONG, step=step)).status_code == 200, step

    run_api(scenario)


def test_what_else_is_refused(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        assert (await api.client.post("/v1/timeline", content=SONG)).status_code == 401
        assert (await api.client.get("/v1/timeline", headers=api.auth())).status_code == 405
        assert (await api.client.post("/v1/timeline/x", content=SONG, headers=api.auth())).status_code == 404
        assert (await api.timeline(b"")).json()["code"] == "audio_empty"
        assert (await api.timeline(bytes(200_001))).status_code == 413
        text = await api.client.post("/v1/timeline", content=SONG, headers={"Content-Type": "text/plain", **api.auth()})
        assert text.status_code == 415

        async def unsupported(data: bytes) -> None:
            raise TimelineUnsupported("one token has no course over time")

        async def full(data: bytes) -> None:
            raise PipelineOverloaded("every place is taken")

        for behaviour, status, code in (
            (unsupported, 422, "timeline_unsupported"),
            (full, 503, "overloaded"),
        ):
            api.pipeline.behaviour = behaviour
            answer = await api.timeline(SONG)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            assert answer.headers["content-type"] == "application/problem+json"
        assert await api.credits() == 100
        session.execute(Account.__table__.update().values(disabled_at=func.now()))
        session.commit()
        assert (await api.timeline(SONG)).json()["code"] == "account_disabled"

    run_api(scenario)


def test_too_slow_is_told_with_the_limit(run_api: Any) -> None:
    async def sleep(data: bytes) -> None:
        await asyncio.sleep(30)

    async def scenario(api: Api) -> None:
        api.pipeline.behaviour = sleep
        answers = await asyncio.gather(api.timeline(SONG), api.timeline(SONG), api.timeline(b"another"))
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(408, "timeout")}
        assert all("0.6 s" in answer.json()["detail"] for answer in answers)
        assert await api.credits() == 100

    run_api(scenario, request_timeout_s=0.6, decode_timeout_s=0.5)


def test_places_are_shared_with_analyses(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def wait(data: bytes) -> None:
            begun.set()
            await release.wait()

        api.pipeline.behaviour = wait
        running = asyncio.create_task(api.timeline(SONG))
        await begun.wait()
        for refused in (await api.analyze(b"a song"), await api.timeline(b"a song")):
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        release.set()
        assert (await running).status_code == 200

    run_api(scenario, max_concurrent_per_account=1)


def test_limits_tell_price_and_longest_track(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        limits = (await api.client.get("/v1/limits")).json()
        assert (limits["timeline_credits"], limits["max_timeline_s"]) == (9, 700.0)

    run_api(scenario, timeline_credits=9, max_timeline_s=700)
