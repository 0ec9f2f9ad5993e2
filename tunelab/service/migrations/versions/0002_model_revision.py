"""Results of one model name but other weights are told apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Results from before have no revision: they are still found by their id, and computed anew when sent again.
    op.add_column("tracks", sa.Column("revision", sa.Text, nullable=False, server_default=sa.text("''")))
    op.drop_constraint("tracks_once", "tracks")
    op.create_unique_constraint("tracks_once", "tracks", ["account_id", "content_id", "model", "revision"])


def downgrade() -> None:
    op.execute("DELETE FROM tracks WHERE revision <> ''")
    op.drop_constraint("tracks_once", "tracks")
    op.create_unique_constraint("tracks_once", "tracks", ["account_id", "content_id", "model"])
    op.drop_column("tracks", "revision")
