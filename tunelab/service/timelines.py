"""A timeline from bytes to a stored and paid result: as :mod:`tunelab.service.analyses`, with a price by length."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tunelab.errors import AudioTooLong, PipelineTimeout
from tunelab.service.database import Database
from tunelab.service.errors import DatabaseUnavailable, InsufficientCredits
from tunelab.service.flights import SingleFlight
from tunelab.service.tables import Account, LedgerEntry, StoredTimeline
from tunelab.service.tracing import current_trace_id, logger
from tunelab.settings import Settings
from tunelab.timeline.answer import in_order, to_json
from tunelab.types import Pipeline, Timeline, content_id

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Key:
    """What is computed and charged once."""

    account: uuid.UUID
    content_id: str
    model: str
    revision: str
    step_s: float


@dataclass(frozen=True, slots=True)
class TimelineResult:
    """A stored timeline, and what it means for the balance.

    Attributes:
        answer: what the route answers, without ``_meta``.
        charged: credits taken for it just now.
        balance: credits that are left.
    """

    content_id: str
    model: str
    answer: Mapping[str, Any]
    charged: int
    balance: int


class TimelineStore:
    """Each method is one transaction. All raise DatabaseUnavailable when the database cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lookup(self, key: Key) -> tuple[int, TimelineResult | None]:
        """The balance at this moment, and the stored result if there is one."""
        async with self._database.reading() as session:
            return await _lookup(session, key)

    async def save(self, key: Key, timeline: Timeline, price: int, trace_id: str) -> TimelineResult:
        """Store a result and take its price, both or neither; a result that is already there costs nothing.

        Raises:
            InsufficientCredits: the balance is below ``price``; nothing was stored.
            DatabaseUnavailable: also when the result that was there is being deleted; nothing was charged.
        """
        answer = to_json(timeline)
        # What answered, which the pipeline has made sure of; not what was asked for before.
        key = replace(key, model=timeline.model, revision=timeline.revision)
        async with self._database.transaction() as session:
            # The insert decides who pays, as for analyses (Store.save).
            inserted = await session.scalar(
                insert(StoredTimeline)
                .values(
                    account_id=key.account,
                    content_id=key.content_id,
                    model=key.model,
                    revision=key.revision,
                    step_s=key.step_s,
                    duration_s=timeline.duration_s,
                    answer=answer,
                )
                .on_conflict_do_nothing(constraint="timelines_once")
                .returning(StoredTimeline.id)
            )
            if inserted is None:
                _, found = await _lookup(session, key)
                if found is None:
                    raise DatabaseUnavailable("the result was deleted at this moment; try again")
                return found
            balance = await session.scalar(
                update(Account)
                .where(Account.id == key.account, Account.balance >= price)
                .values(balance=Account.balance - price)
                .returning(Account.balance)
                .execution_options(synchronize_session=False)
            )
            if balance is None:
                raise InsufficientCredits(
                    f"this timeline costs {price} credits, and fewer are left; nothing was charged"
                )
            await session.execute(
                insert(LedgerEntry).values(
                    account_id=key.account,
                    delta=-price,
                    balance_after=balance,
                    reason="timeline",
                    content_id=key.content_id,
                    model=key.model,
                    trace_id=trace_id,
                )
            )
        return TimelineResult(key.content_id, key.model, answer, charged=price, balance=balance)


class Timelines:
    """Timelines of one process. What must hold across processes is in the transactions of the store."""

    def __init__(self, pipeline: Pipeline, store: TimelineStore, settings: Settings) -> None:
        self._pipeline = pipeline
        self._store = store
        self._settings = settings
        self._flights: SingleFlight[TimelineResult] = SingleFlight()
        self._saving: dict[Key, asyncio.Task[TimelineResult]] = {}

    async def timeline(self, account: uuid.UUID, data: bytes, step_s: float) -> TimelineResult:
        """The timeline of a file: stored, paid, and computed only if it was not stored before.

        Raises:
            TimelineUnsupported, AudioError, PipelineError: see :class:`~tunelab.types.Pipeline`.
            InsufficientCredits: the balance does not cover it.
            PipelineTimeout: it took longer than ``request_timeout_s``.
            DatabaseUnavailable: the database cannot be reached.

        Whatever is raised, nothing was charged, with one exception: the answer may be late although the result was
        stored and paid in time. Asking again then costs nothing.
        """
        name = content_id(data) if len(data) < 1 << 20 else await asyncio.to_thread(content_id, data)
        key = Key(account, name, self._pipeline.model, self._pipeline.revision, step_s)
        limit = self._settings.request_timeout_s
        deadline = asyncio.get_running_loop().time() + limit

        try:
            result, mine = await self._flights.run(key, lambda: self._compute(key, data), deadline)
        except TimeoutError:
            raise PipelineTimeout(f"no timeline within {limit:g} s; try again, or send a shorter track") from None
        return result if mine else replace(result, charged=0)

    async def _compute(self, key: Key, data: bytes) -> TimelineResult:
        if (saving := self._saving.get(key)) is not None:
            await asyncio.wait([saving])  # somebody computed it and went away
        balance, found = await self._store.lookup(key)
        if found is not None:
            return found
        rate, allowed_s = self._settings.timeline_credits, self._settings.max_timeline_s
        paid_s = affordable_s(balance, rate)
        if paid_s < _MINUTE_S:
            raise InsufficientCredits(
                f"a timeline costs {rate} credits a started minute, and fewer are left; nothing was charged"
            )
        try:
            timeline = await self._pipeline.timeline(data, key.step_s, min(paid_s, allowed_s))
        except AudioTooLong:
            if paid_s >= min(allowed_s, self._settings.max_duration_s):
                raise
            raise InsufficientCredits(
                f"the track is longer than the {paid_s / _MINUTE_S:.0f} minutes that the balance covers, at {rate} "
                "credits a started minute; nothing was charged"
            ) from None
        price = price_of(timeline.duration_s, rate)
        # Finished although the client may go away, as for analyses.
        task = asyncio.create_task(self._store.save(key, timeline, price, current_trace_id()))
        self._saving[key] = task
        task.add_done_callback(lambda done: self._saved(key, done))
        return await asyncio.shield(task)

    def _saved(self, key: Key, task: asyncio.Task[TimelineResult]) -> None:
        del self._saving[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.info("a timeline was not stored: %s", type(error).__name__)

    async def drain(self) -> None:
        """Wait for the transactions that are being finished for clients that went away."""
        await asyncio.gather(*self._saving.values(), return_exceptions=True)


def price_of(duration_s: float, rate: int) -> int:
    """Credits for a track at ``rate`` a started minute."""
    return rate * max(1, math.ceil(duration_s / _MINUTE_S))


def affordable_s(balance: int, rate: int) -> float:
    """Longest track, in seconds, that a balance covers at ``rate`` a started minute: whole minutes, or infinite."""
    return _MINUTE_S * (balance // rate) if rate else math.inf


async def _lookup(session: AsyncSession, key: Key) -> tuple[int, TimelineResult | None]:
    same = (
        (StoredTimeline.account_id == Account.id)
        & (StoredTimeline.content_id == key.content_id)
        & (StoredTimeline.model == key.model)
        & (StoredTimeline.revision == key.revision)
        & (StoredTimeline.step_s == key.step_s)
    )
    query = (
        select(Account.balance, StoredTimeline.answer).outerjoin(StoredTimeline, same).where(Account.id == key.account)
    )
    balance, answer = (await session.execute(query)).one()
    if answer is None:
        return balance, None
    return balance, TimelineResult(key.content_id, key.model, in_order(answer), charged=0, balance=balance)
