"""The tables. The migrations make them; a test holds the two together."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tunelab.types import EMBEDDING_SIZE, HEADS

TIERS = ("free", "pro")


class Base(DeclarativeBase):
    pass


def _now() -> Mapped[datetime]:
    return mapped_column(DateTime(timezone=True), server_default=func.now())


class Account(Base):
    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("balance >= 0", name="accounts_balance_not_negative"),
        CheckConstraint("tier in ('free', 'pro')", name="accounts_tier_known"),
        CheckConstraint("length(name) between 1 and 100", name="accounts_name_length"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    name: Mapped[str] = mapped_column(Text, unique=True)
    tier: Mapped[str] = mapped_column(Text)
    balance: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = _now()
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class ApiKey(Base):
    __tablename__ = "api_keys"
    __table_args__ = (Index("api_keys_account", "account_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    prefix: Mapped[str] = mapped_column(Text, unique=True)
    """The first characters of the key: public, names it in lists."""
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    """SHA-256 of the whole key, 32 bytes."""
    created_at: Mapped[datetime] = _now()
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Track(Base):
    """One result: of one content, by one model, for one account."""

    __tablename__ = "tracks"
    __table_args__ = (
        # This key is what makes an analysis charged once, whatever runs at the same time.
        UniqueConstraint("account_id", "content_id", "model", "revision", name="tracks_once"),
        CheckConstraint("content_id ~ '^[0-9a-f]{64}$'", name="tracks_content_id_form"),
        Index(
            "tracks_embedding",
            "embedding",
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "halfvec_cosine_ops"},
        ),
        # Counts and finds an account's tracks in ranges of scores without reading the others.
        Index("tracks_scores", "account_id", "model", "revision", *HEADS),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    content_id: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    """Name of the bundle."""
    revision: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """Which files the bundle had: a name may be given to better weights later."""
    # Scores in 0..1, never rounded; null where the model has no such head.
    energy: Mapped[float | None] = mapped_column(Double)
    danceability: Mapped[float | None] = mapped_column(Double)
    happiness: Mapped[float | None] = mapped_column(Double)
    acousticness: Mapped[float | None] = mapped_column(Double)
    instrumentalness: Mapped[float | None] = mapped_column(Double)
    speechiness: Mapped[float | None] = mapped_column(Double)
    duration_s: Mapped[float] = mapped_column(Double)
    embedding: Mapped[Any] = mapped_column(HALFVEC(EMBEDDING_SIZE))
    """For search: half precision, under the index."""
    embedding_f32: Mapped[bytes] = mapped_column(LargeBinary)
    """For answers: the very numbers of the encoder, little-endian float32."""
    created_at: Mapped[datetime] = _now()


class StoredTimeline(Base):
    """One timeline: of one content, by one model, in steps of one length, for one account."""

    __tablename__ = "timelines"
    __table_args__ = (
        # As with tracks: what makes a timeline charged once.
        UniqueConstraint("account_id", "content_id", "model", "revision", "step_s", name="timelines_once"),
        CheckConstraint("content_id ~ '^[0-9a-f]{64}$'", name="timelines_content_id_form"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    content_id: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    revision: Mapped[str] = mapped_column(Text)
    step_s: Mapped[float] = mapped_column(Double)
    duration_s: Mapped[float] = mapped_column(Double)
    answer: Mapped[Any] = mapped_column(JSONB)
    """What the route answers, without ``_meta``."""
    created_at: Mapped[datetime] = _now()


class StoredClassifier(Base):
    """A customer's own classifier, from the moment it is asked for; the row is its job, too, for any process."""

    __tablename__ = "classifiers"
    __table_args__ = (
        UniqueConstraint("account_id", "name", name="classifiers_once"),
        # Every process looks for work every few seconds.
        Index("classifiers_due", "created_at", "id", postgresql_where=text("status in ('queued', 'training')")),
        CheckConstraint("length(name) between 1 and 100", name="classifiers_name_length"),
        CheckConstraint("status in ('queued', 'training', 'ready', 'failed')", name="classifiers_status_known"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    """``multiclass`` or ``multilabel``."""
    model: Mapped[str] = mapped_column(Text)
    """Bundle whose embeddings it reads, and its revision."""
    revision: Mapped[str] = mapped_column(Text)
    labels: Mapped[Any] = mapped_column(JSONB)
    """Content id -> label, or list of labels."""
    weights: Mapped[bytes | None] = mapped_column(LargeBinary)
    """safetensors, once it is ready."""
    report: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    """Accuracy on held-out examples, once it is ready."""
    error: Mapped[str | None] = mapped_column(Text)
    """Why it failed, for people."""
    tries: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = _now()
    claimed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """Last sign of life of the process that trains it."""
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class LedgerEntry(Base):
    """One change of a balance. Rows are only ever added; a trigger refuses anything else."""

    __tablename__ = "ledger"
    __table_args__ = (
        CheckConstraint("balance_after >= 0", name="ledger_balance_not_negative"),
        Index("ledger_account", "account_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    delta: Mapped[int] = mapped_column(BigInteger)
    balance_after: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    content_id: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    trace_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = _now()
