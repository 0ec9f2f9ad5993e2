"""Accounts, keys, ledger and tracks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import HALFVEC

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True)


def _time(name: str = "created_at", *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.func.now()
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _account() -> sa.Column[object]:
    return sa.Column("account_id", sa.Uuid, sa.ForeignKey("accounts.id"), nullable=False)


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()")),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("balance", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        _time(),
        _time("disabled_at", nullable=True),
        sa.CheckConstraint("balance >= 0", name="accounts_balance_not_negative"),
        sa.CheckConstraint("tier in ('free', 'pro')", name="accounts_tier_known"),
        sa.CheckConstraint("length(name) between 1 and 100", name="accounts_name_length"),
    )
    op.create_table(
        "api_keys",
        _id(),
        _account(),
        sa.Column("prefix", sa.Text, nullable=False, unique=True),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        _time(),
        _time("revoked_at", nullable=True),
    )
    op.create_index("api_keys_account", "api_keys", ["account_id"])
    op.create_table(
        "tracks",
        _id(),
        _account(),
        sa.Column("content_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("energy", sa.Double),
        sa.Column("danceability", sa.Double),
        sa.Column("happiness", sa.Double),
        sa.Column("acousticness", sa.Double),
        sa.Column("instrumentalness", sa.Double),
        sa.Column("speechiness", sa.Double),
        sa.Column("duration_s", sa.Double, nullable=False),
        sa.Column("embedding", HALFVEC(768), nullable=False),
        sa.Column("embedding_f32", sa.LargeBinary, nullable=False),
        _time(),
        sa.UniqueConstraint("account_id", "content_id", "model", name="tracks_once"),
        sa.CheckConstraint("content_id ~ '^[0-9a-f]{64}$'", name="tracks_content_id_form"),
    )
    op.create_index(
        "tracks_embedding",
        "tracks",
        ["embedding"],
        postgresql_using="hnsw",
        postgresql_ops={"embedding": "halfvec_cosine_ops"},
    )
    op.create_table(
        "ledger",
        _id(),
        _account(),
        sa.Column("delta", sa.BigInteger, nullable=False),
        sa.Column("balance_after", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("content_id", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("trace_id", sa.Text),
        _time(),
        sa.CheckConstraint("balance_after >= 0", name="ledger_balance_not_negative"),
    )
    op.create_index("ledger_account", "ledger", ["account_id", "id"])
    op.execute(
        "CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE ON ledger "
        "FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only()"
    )


def downgrade() -> None:
    for table in ("ledger", "tracks", "api_keys", "accounts"):
        op.drop_table(table)
    op.execute("DROP FUNCTION ledger_is_append_only")
