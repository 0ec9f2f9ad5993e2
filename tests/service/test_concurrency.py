"""Requests at the same time: one computation, one charge, never below zero, and nobody hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.service.support import Api, StartApi
from tunelab.errors import CorruptAudio
from tunelab.service.flights import SingleFlight
from tunelab.service.store import Store
from tunelab.service.tables import Account, LedgerEntry, Track


def ledger_adds_up(session: Session) -> bool:
    session.expire_all()
    sums = select(func.coalesce(func.sum(LedgerEntry.delta), 0)).where(LedgerEntry.account_id == Account.id)
    rows = session.execute(select(Account.balance, sums.scalar_subquery())).all()
    return all(balance == total and balance >= 0 for balance, total in rows)


def test_twenty_requests_with_credits_for_three(run_api: Any, session: Session) -> None:
    async def slow(data: bytes) -> None:
        await asyncio.sleep(0.05)

    async def scenario(api: Api) -> list[int]:
        api.pipeline.behaviour = slow
        answers = await asyncio.gather(*(api.analyze(b"song %d" % number) for number in range(20)))
        assert await api.credits() == 1
        refused = {answer.json()["code"] for answer in answers if answer.status_code != 200}
        assert refused == {"insufficient_credits"}
        # A result that the account has is free, also when there is nothing left to pay with.
        paid = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
        assert (await api.analyze(b"song %d" % paid)).json()["_meta"]["credits_used"] == 0
        calls = api.pipeline.calls
        assert (await api.analyze(b"one more")).status_code == 402
        assert api.pipeline.calls == calls
        return [answer.status_code for answer in answers]

    statuses = run_api(scenario, analyze_credits=33)
    assert sorted(statuses) == [200] * 3 + [402] * 17
    assert session.scalar(select(func.count()).select_from(Track)) == 3
    assert ledger_adds_up(session)


def test_same_bytes_at_once_are_one_computation_and_one_charge(run_api: Any, session: Session) -> None:
    async def slow(data: bytes) -> None:
        await asyncio.sleep(0.1)

    async def scenario(api: Api) -> None:
        api.pipeline.behaviour = slow
        answers = await asyncio.gather(*(api.analyze(b"the song") for _ in range(10)))
        assert [answer.status_code for answer in answers] == [200] * 10
        assert sorted(answer.json()["_meta"]["credits_used"] for answer in answers) == [0] * 9 + [5]
        assert {answer.json()["_meta"]["credits_remaining"] for answer in answers} == {95}
        assert api.pipeline.calls == 1

    run_api(scenario)
    assert ledger_adds_up(session)


def test_same_bytes_in_two_processes_are_one_charge(start_api: StartApi, session: Session) -> None:
    """Two apps stand for two processes: nothing but the database is shared."""

    async def main() -> None:
        barrier = asyncio.Barrier(2)

        async def meet(data: bytes) -> None:
            await barrier.wait()

        async with start_api() as one, start_api() as two:
            one.pipeline.behaviour = meet
            first, second = await asyncio.gather(one.analyze(b"the song"), two.analyze(b"the song"))
            assert sorted(answer.json()["_meta"]["credits_used"] for answer in (first, second)) == [0, 5]
            assert await one.credits() == 95

    asyncio.run(main())
    assert ledger_adds_up(session)


def test_followers_survive_a_cancelled_leader(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        started, release = asyncio.Event(), asyncio.Event()

        async def wait(data: bytes) -> None:
            started.set()
            await release.wait()

        api.pipeline.behaviour = wait
        leader = asyncio.create_task(api.analyze(b"the song"))
        await started.wait()
        followers = [asyncio.create_task(api.analyze(b"the song")) for _ in range(3)]
        await asyncio.sleep(0.2)
        leader.cancel()
        await asyncio.sleep(0.1)
        assert leader.cancelled()
        release.set()
        answers = await asyncio.wait_for(asyncio.gather(*followers), 5)
        assert sorted(answer.json()["_meta"]["credits_used"] for answer in answers) == [0, 0, 5]
        assert await api.credits() == 95

    run_api(scenario)


@pytest.mark.parametrize("what", ["analyze", "timeline"])
def test_followers_have_their_own_time(run_api: Any, session: Session, what: str) -> None:
    async def scenario(api: Api) -> None:
        service = api.app.state.service
        worker = {"analyze": service.analyses, "timeline": service.timelines}[what]
        ask = {"analyze": api.analyze, "timeline": api.timeline}[what]
        started = asyncio.Event()

        async def stuck_once(data: bytes) -> None:
            if not started.is_set():
                started.set()
                await asyncio.Event().wait()

        api.pipeline.behaviour = stuck_once
        worker._settings = service.settings.model_copy(update={"request_timeout_s": 0.5})
        leader = asyncio.create_task(ask(b"the song"))
        await started.wait()
        worker._settings = service.settings
        followers = [asyncio.create_task(ask(b"the song")) for _ in range(3)]
        assert (await leader).json()["code"] == "timeout"
        answers = await asyncio.wait_for(asyncio.gather(*followers), 20)
        assert [answer.status_code for answer in answers] == [200] * 3
        assert sorted(answer.json()["_meta"]["credits_used"] > 0 for answer in answers) == [False, False, True]
        assert api.pipeline.calls + api.pipeline.timelines == 2

    run_api(scenario)
    assert ledger_adds_up(session)


def test_followers_get_the_leaders_error(run_api: Any) -> None:
    async def fail(data: bytes) -> None:
        await asyncio.sleep(0.1)
        raise CorruptAudio("the file ends in the middle")

    async def scenario(api: Api) -> None:
        api.pipeline.behaviour = fail
        answers = await asyncio.gather(*(api.analyze(b"the song") for _ in range(5)))
        assert {answer.json()["code"] for answer in answers} == {"audio_corrupt"}
        assert api.pipeline.calls == 1
        assert await api.credits() == 100

    run_api(scenario)


def test_client_that_leaves_while_computing_is_not_charged(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        started = asyncio.Event()

        async def wait(data: bytes) -> None:
            started.set()
            await asyncio.Event().wait()

        api.pipeline.behaviour = wait
        request = asyncio.create_task(api.analyze(b"the song"))
        await started.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert await api.credits() == 100

    run_api(scenario)
    assert session.scalar(select(func.count()).select_from(Track)) == 0


def test_client_that_leaves_while_storing_is_charged_with_a_result(
    run_api: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = asyncio.Event()
    save = Store.save

    async def slow_save(self: Store, *args: Any) -> Any:
        started.set()
        await asyncio.sleep(0.2)
        return await save(self, *args)

    monkeypatch.setattr(Store, "save", slow_save)

    async def scenario(api: Api) -> None:
        request = asyncio.create_task(api.analyze(b"the song"))
        await started.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        # Asked again while it is still being stored: waits for it, and computes nothing.
        again = await api.analyze(b"the song")
        assert again.json()["_meta"]["credits_used"] == 0
        assert api.pipeline.calls == 1
        other = asyncio.create_task(api.analyze(b"another song"))
        await asyncio.sleep(0.1)
        other.cancel()  # and this one is still being stored when the service shuts down

    run_api(scenario)
    assert session.scalar(select(func.count()).select_from(Track)) == 2
    assert ledger_adds_up(session)


def test_slow_pipeline_is_a_408(run_api: Any) -> None:
    async def never(data: bytes) -> None:
        await asyncio.Event().wait()

    async def scenario(api: Api) -> None:
        api.pipeline.behaviour = never
        answers = await asyncio.gather(api.analyze(b"the song"), api.analyze(b"the song"), api.analyze(b"another"))
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(408, "timeout")}
        assert await api.credits() == 100

    run_api(scenario, request_timeout_s=0.6, decode_timeout_s=0.5)


def test_too_many_at_once_are_429_for_that_account_only(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        release = asyncio.Event()

        async def wait(data: bytes) -> None:
            await release.wait()

        api.pipeline.behaviour = wait
        running = [asyncio.create_task(api.analyze(b"song %d" % number)) for number in range(2)]
        await asyncio.sleep(0.3)
        refused = await api.analyze(b"song 3")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert refused.headers["retry-after"] == "1"
        other = asyncio.create_task(api.analyze(b"song 3", "pro"))
        await asyncio.sleep(0.1)
        release.set()
        assert {answer.status_code for answer in await asyncio.gather(*running, other)} == {200}
        # Places are free again as soon as the answer is there.
        for number in range(10):
            both = await asyncio.gather(*(api.analyze(b"song %d" % (10 * number + k)) for k in (4, 5)))
            assert {answer.status_code for answer in both} <= {200, 402}

    run_api(scenario, max_concurrent_per_account=2)


def test_places_of_the_service_are_refused_before_the_body_is_read(run_api: Any) -> None:
    async def scenario(api: Api) -> None:
        release = asyncio.Event()

        async def wait(data: bytes) -> None:
            await release.wait()

        async def unread() -> AsyncIterator[bytes]:
            pulled.append(True)
            yield b"song"

        pulled: list[bool] = []
        api.pipeline.behaviour = wait
        running = [asyncio.create_task(api.analyze(b"song %d" % number)) for number in range(3)]
        await asyncio.sleep(0.3)
        headers = {"Content-Type": "audio/mpeg", **api.auth("pro")}
        refused = await api.client.post("/v1/analyze", content=unread(), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "2"
        assert not pulled
        # What costs nothing is answered all the same.
        assert (await api.client.get("/v1/account", headers=api.auth("pro"))).status_code == 200
        release.set()
        assert {answer.status_code for answer in await asyncio.gather(*running)} == {200}

    run_api(scenario, max_concurrent=3)


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_single_flight_alone() -> None:
    async def main() -> None:
        flights: SingleFlight[int] = SingleFlight()

        async def work() -> int:
            await asyncio.sleep(0.01)
            return 7

        results = await asyncio.gather(*(flights.run("key", work, soon(1)) for _ in range(3)))
        assert results == [(7, True), (7, False), (7, False)]
        assert await flights.run("key", work, soon(1)) == (7, True)
        leader = asyncio.create_task(flights.run("key", lambda: asyncio.sleep(1, 1), soon(1)))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await flights.run("key", work, soon(0.01))
        leader.cancel()
        await asyncio.wait([leader])
        # Out of time is who works on it, and not the one that waits with him.
        leader = asyncio.create_task(flights.run("key", lambda: asyncio.sleep(60, 1), soon(0.05)))
        await asyncio.sleep(0)
        assert await flights.run("key", work, soon(60)) == (7, True)
        with pytest.raises(TimeoutError):
            await leader
        assert not flights._flights

    asyncio.run(main())
