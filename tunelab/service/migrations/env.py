"""Run by Alembic. The connection, already in a transaction, comes from :mod:`tunelab.service.migrate`."""

from __future__ import annotations

from alembic import context

from tunelab.service.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
