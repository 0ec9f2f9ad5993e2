"""Alembic migrations; :func:`tunelab.service.migrate.migrate` runs them at start."""
