"""Classifiers that wait for their training are found without reading those that are done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    due = sa.text("status in ('queued', 'training')")
    op.create_index("classifiers_due", "classifiers", ["created_at", "id"], postgresql_where=due)


def downgrade() -> None:
    op.drop_index("classifiers_due", "classifiers")
