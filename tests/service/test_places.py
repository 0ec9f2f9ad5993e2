"""Searches wait for each other, one customer's are bounded, and nobody else is refused for them."""

import asyncio
import uuid

import pytest

from tunelab.service import places
from tunelab.service.errors import DatabaseUnavailable, TooManyRequests
from tunelab.service.places import Places


def test_so_many_run_at_once_and_all_have_their_turn() -> None:
    async def scenario() -> None:
        two, running, most, done = Places(2, 10), 0, 0, 0

        async def search() -> None:
            nonlocal running, most, done
            async with two.one(account):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= 1
                done += 1

        account = uuid.uuid4()
        await asyncio.gather(*(search() for _ in range(10)))
        assert (most, done) == (2, 10)

    asyncio.run(scenario())


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_PATIENCE_S", 0.01)

    async def scenario() -> None:
        few, account = Places(1, 5), uuid.uuid4()
        async with few.one(account):
            with pytest.raises(DatabaseUnavailable, match="too many searches"):
                async with few.one(account):
                    pass
        async with few.one(account):
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_place_comes_before_the_turn() -> None:
    async def scenario() -> None:
        few, one, other = Places(1, 2, "creations"), uuid.uuid4(), uuid.uuid4()
        with few.held(one), few.held(one):
            with pytest.raises(TooManyRequests, match="at most 2 creations of one account"), few.held(one):
                pass
            # Whoever holds places, and does not run, keeps nobody waiting.
            async with few.one(other):
                await asyncio.sleep(0)
        async with few.one(one):
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_one_account_is_bounded_and_another_is_not_refused() -> None:
    async def scenario() -> None:
        single, one, other = Places(1, 2), uuid.uuid4(), uuid.uuid4()
        release = asyncio.Event()

        async def search(account: uuid.UUID) -> None:
            async with single.one(account):
                await release.wait()

        tasks = [asyncio.create_task(search(account)) for account in (one, one, other)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests, match="at most 2 searches"):
            await search(one)
        # Whoever stops waiting gives the place back.
        tasks[1].cancel()
        await asyncio.gather(tasks[1], return_exceptions=True)
        tasks.append(asyncio.create_task(search(one)))
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(tasks[0], *tasks[2:])
        async with single.one(one):
            await asyncio.sleep(0)

    asyncio.run(scenario())
