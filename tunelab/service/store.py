"""What requests read and write: who asks, results, and the charge for a result."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tunelab.service.database import Database
from tunelab.service.errors import DatabaseUnavailable, InsufficientCredits
from tunelab.service.keys import digest
from tunelab.service.tables import Account, ApiKey, LedgerEntry, Track
from tunelab.types import EMBEDDING_SIZE, HEADS, Analysis, FloatArray


@dataclass(frozen=True, slots=True)
class Caller:
    """The account that a request's key belongs to, as it was when the request came in."""

    id: uuid.UUID
    name: str
    tier: str
    balance: int
    disabled: bool


@dataclass(frozen=True, slots=True)
class Result:
    """A stored result, and what it means for the balance.

    Attributes:
        scores: head -> value in 0..1, not rounded.
        charged: credits taken for it just now.
        balance: credits that are left.
    """

    content_id: str
    model: str
    scores: Mapping[str, float]
    duration_s: float
    charged: int
    balance: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """The balance at this moment, and the stored result if there is one."""

    balance: int
    result: Result | None


class Store:
    """Each method is one transaction. All raise DatabaseUnavailable when the database cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def caller(self, key: str) -> Caller | None:
        """The account of a key that was not revoked, or None."""
        query = (
            select(Account.id, Account.name, Account.tier, Account.balance, Account.disabled_at)
            .join(ApiKey, ApiKey.account_id == Account.id)
            .where(ApiKey.digest == digest(key), ApiKey.revoked_at.is_(None))
        )
        async with self._database.reading() as session:
            row = (await session.execute(query)).one_or_none()
        if row is None:
            return None
        return Caller(row.id, row.name, row.tier, row.balance, row.disabled_at is not None)

    async def lookup(self, account: uuid.UUID, content_id: str, model: str, revision: str) -> Lookup:
        """The result of exactly this revision of the model, and the balance."""
        async with self._database.reading() as session:
            return await _lookup(session, account, content_id, model, revision)

    async def latest(
        self, account: uuid.UUID, content_id: str, model: str, revision: str
    ) -> tuple[Result, FloatArray] | None:
        """The result of this revision of ``model``, or else the newest other one, with the embedding; None if there is
        none.
        """
        query = (
            select(*_COLUMNS, Track.embedding_f32, Account.balance)
            .join(Account, Account.id == Track.account_id)
            .where(Track.account_id == account, Track.content_id == content_id)
            .order_by(((Track.model == model) & (Track.revision == revision)).desc(), Track.created_at.desc())
            .limit(1)
        )
        async with self._database.reading() as session:
            row = (await session.execute(query)).one_or_none()
        if row is None:
            return None
        return _result(row._asdict(), row.balance), np.frombuffer(row.embedding_f32, "<f4")

    async def save(self, account: uuid.UUID, content_id: str, analysis: Analysis, price: int, trace_id: str) -> Result:
        """Store a result and take its price, both or neither; a result that is already there costs nothing.

        Raises:
            InsufficientCredits: the balance is below ``price``; nothing was stored.
            DatabaseUnavailable: also when the result that was there is being deleted; nothing was charged.
        """
        async with self._database.transaction() as session:
            # The insert decides who pays: of two that store the same result at once, in whatever process, the second
            # waits here until the first has committed, and then finds the row.
            inserted = await session.scalar(
                insert(Track)
                .values(_row(account, content_id, analysis))
                .on_conflict_do_nothing(constraint="tracks_once")
                .returning(Track.id)
            )
            if inserted is None:
                found = await _lookup(session, account, content_id, analysis.model, analysis.revision)
                if found.result is None:
                    raise DatabaseUnavailable("the result was deleted at this moment; try again")
                return found.result
            balance = await session.scalar(
                update(Account)
                .where(Account.id == account, Account.balance >= price)
                .values(balance=Account.balance - price)
                .returning(Account.balance)
                .execution_options(synchronize_session=False)
            )
            if balance is None:
                raise out_of_credits(price)
            await session.execute(
                insert(LedgerEntry).values(
                    account_id=account,
                    delta=-price,
                    balance_after=balance,
                    reason="analyze",
                    content_id=content_id,
                    model=analysis.model,
                    trace_id=trace_id,
                )
            )
        scores = {head: float(analysis.scores[head]) for head in HEADS if head in analysis.scores}
        return Result(content_id, analysis.model, scores, analysis.duration_s, charged=price, balance=balance)


def out_of_credits(price: int) -> InsufficientCredits:
    """The error for a balance below ``price``."""
    return InsufficientCredits(f"an analysis costs {price} credits, and fewer are left; nothing was charged")


_COLUMNS = (Track.content_id, Track.model, Track.duration_s, *(getattr(Track, head) for head in HEADS))


def _result(row: Mapping[str, object], balance: int) -> Result:
    scores = {head: value for head in HEADS if isinstance(value := row[head], float)}
    duration_s = row["duration_s"]
    assert isinstance(duration_s, float)  # noqa: S101  for the type checker: the column is not null
    return Result(str(row["content_id"]), str(row["model"]), scores, duration_s, charged=0, balance=balance)


async def _lookup(session: AsyncSession, account: uuid.UUID, content_id: str, model: str, revision: str) -> Lookup:
    same = (
        (Track.account_id == Account.id)
        & (Track.content_id == content_id)
        & (Track.model == model)
        & (Track.revision == revision)
    )
    query = select(Account.balance, *_COLUMNS).outerjoin(Track, same).where(Account.id == account)
    row = (await session.execute(query)).one()
    return Lookup(row.balance, None if row.content_id is None else _result(row._asdict(), row.balance))


def _row(account: uuid.UUID, content_id: str, analysis: Analysis) -> dict[str, object]:
    embedding = np.asarray(analysis.embedding, "<f4")
    if embedding.shape != (EMBEDDING_SIZE,):
        raise ValueError(f"an embedding has shape ({EMBEDDING_SIZE},), not {embedding.shape}")
    scores = {head: float(analysis.scores[head]) if head in analysis.scores else None for head in HEADS}
    return {
        "account_id": account,
        "content_id": content_id,
        "model": analysis.model,
        "revision": analysis.revision,
        **scores,
        "duration_s": float(analysis.duration_s),
        # float16 ends at 65504; the search does not mind a clipped number, PostgreSQL minds an infinite one.
        "embedding": np.clip(embedding, -65504, 65504).tolist(),
        "embedding_f32": embedding.tobytes(),
    }
