"""Timelines and customers' own classifiers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "timelines",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("account_id", sa.Uuid, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("content_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("step_s", sa.Double, nullable=False),
        sa.Column("duration_s", sa.Double, nullable=False),
        sa.Column("answer", JSONB, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.UniqueConstraint("account_id", "content_id", "model", "revision", "step_s", name="timelines_once"),
        sa.CheckConstraint("content_id ~ '^[0-9a-f]{64}$'", name="timelines_content_id_form"),
    )
    op.create_table(
        "classifiers",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("account_id", sa.Uuid, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("labels", JSONB, nullable=False),
        sa.Column("weights", sa.LargeBinary),
        sa.Column("report", JSONB),
        sa.Column("error", sa.Text),
        sa.Column("tries", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("account_id", "name", name="classifiers_once"),
        sa.CheckConstraint("length(name) between 1 and 100", name="classifiers_name_length"),
        sa.CheckConstraint("status in ('queued', 'training', 'ready', 'failed')", name="classifiers_status_known"),
    )


def downgrade() -> None:
    op.drop_table("classifiers")
    op.drop_table("timelines")
