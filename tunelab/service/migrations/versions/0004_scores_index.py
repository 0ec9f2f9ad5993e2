"""Tracks of one account are found by their scores."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SCORES = ("energy", "danceability", "happiness", "acousticness", "instrumentalness", "speechiness")


def upgrade() -> None:
    op.create_index("tracks_scores", "tracks", ["account_id", "model", "revision", *_SCORES])


def downgrade() -> None:
    op.drop_index("tracks_scores", "tracks")
