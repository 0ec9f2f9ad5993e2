"""Bring a database to the tables of this version."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tunelab.errors import SettingsError

# "tunelab" in ASCII: every process of every version takes this one lock.
_LOCK_KEY = 0x74756E656C6162

# Alembic's context is a module-level variable: two apps of one process must take turns.
_in_process = threading.Lock()


def migrate(url: URL) -> None:
    """Run the missing migrations in one transaction; does nothing when there are none.

    Replicas that start together take turns at an advisory lock, which ends with the transaction, so that a process
    killed in the middle leaves neither the lock nor half a migration.

    Raises:
        SettingsError: the database was migrated by a newer TuneLab, or may not be changed by this user, or has no
            pgvector.
        OperationalError: the database cannot be reached.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        with _in_process, engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise SettingsError("the database belongs to a newer version of TuneLab") from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state == "42501":
            raise SettingsError("the database user may not create TuneLab's tables or the extension 'vector'") from None
        if state in ("0A000", "58P01"):
            raise SettingsError("the database server has no pgvector: install its extension 'vector'") from None
        raise
    finally:
        engine.dispose()
