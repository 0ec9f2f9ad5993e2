"""Where the database is, and sessions on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tunelab.errors import SettingsError
from tunelab.service.embedded import EmbeddedPostgres
from tunelab.service.errors import DatabaseUnavailable
from tunelab.service.migrate import migrate
from tunelab.settings import Settings

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5
_POOL_TIMEOUT_S = 5.0
_PING_TIMEOUT_S = 2.0
_OPTIONS = "-c statement_timeout=8000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=15000"
"""Of the service's connections, in milliseconds: a statement takes a few, and nobody waits for a stuck one."""
_UNACKNOWLEDGED_MS = 8000
"""A connection whose packets vanish (a firewall, a paused machine) is given up after this."""
_LOOK_AFTER_S = 2.0
"""How often it is looked whether the embedded server is alive: well under a millisecond of work."""
_LEAVING_S = 5.0
"""What is waited for users that are being killed."""
_GONE = (OperationalError, InterfaceError, PoolTimeout)


class DatabaseLease:
    """The right to use the database: where it is and, if it is the embedded one, that it keeps running until closed."""

    def __init__(self, url: URL, embedded: EmbeddedPostgres | None = None) -> None:
        self.url = url
        self._embedded = embedded

    async def keep_up(self) -> None:
        """Look now and then whether the embedded server is alive, and start it again if not; ends when cancelled."""
        while self._embedded is not None:
            await asyncio.sleep(_LOOK_AFTER_S)
            try:
                if await asyncio.to_thread(self._embedded.revive):
                    log.warning("the embedded PostgreSQL had died and was started again")
            except SettingsError as error:
                log.error("the embedded PostgreSQL has died: %s", error)
            except Exception:  # whatever it is, the next look may find it gone
                log.exception("the embedded PostgreSQL has died")

    def close(self) -> None:
        if self._embedded is not None:
            self._embedded.close()


def open_database(settings: Settings) -> DatabaseLease:
    """Find or start the database and bring its tables up to date. Blocks, for about 1 s when it starts a server.

    Raises:
        SettingsError: ``TUNELAB_DATABASE_URL`` is no usable URL, or the database or data folder cannot be used.
        DatabaseUnavailable: the server does not answer, or refuses the user; the message names the host, and
            never the password.
    """
    if settings.database_url is None:
        embedded = EmbeddedPostgres(settings.data_dir)
        lease = DatabaseLease(embedded.open(), embedded)
    else:
        lease = DatabaseLease(_parse(settings.database_url.get_secret_value()))
    try:
        migrate(lease.url)
    except _GONE as error:
        lease.close()
        place = f"{lease.url.host or 'the local socket'}:{lease.url.port or 5432}, database {lease.url.database!r}"
        raise DatabaseUnavailable(f"cannot use PostgreSQL at {place}: {_reason(error, lease.url)}") from None
    except BaseException:
        lease.close()
        raise
    return lease


def stop_unused(settings: Settings) -> None:
    """Stop the embedded server if it runs for nobody: a user that was killed could not. Blocks up to 5 s for others."""
    if settings.database_url is None:
        EmbeddedPostgres(settings.data_dir).stop_if_unused(_LEAVING_S)


def _parse(value: str) -> URL:
    scheme, _, rest = value.partition("://")
    try:
        url = make_url(f"postgresql+psycopg://{rest}")
    except (ArgumentError, ValueError):
        raise SettingsError(f"TUNELAB_DATABASE_URL: not a URL of the form {scheme}://user:password@host/db") from None
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(_CONNECT_TIMEOUT_S)})
    return url


def _reason(error: BaseException, url: URL) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    reason = lines[0]
    for secret in (url.password, url.query.get("password")):
        if secret:
            reason = reason.replace(str(secret), "***")
    return reason


def _options(url: URL) -> str:
    """Settings of a connection: ours, after those that the address itself asks for, which would be lost otherwise."""
    own = url.query.get("options", "")
    return " ".join([*((own,) if isinstance(own, str) else own), _OPTIONS]).strip()


class Database:
    """Asynchronous sessions; belongs to the event loop that it is first used in."""

    def __init__(self, url: URL, pool_size: int) -> None:
        self._engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_POOL_TIMEOUT_S,
            # A server that restarted is noticed before a request is given a dead connection (costs one round trip).
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"options": _options(url), "tcp_user_timeout": _UNACKNOWLEDGED_MS},
        )
        # One statement that only reads needs no BEGIN and COMMIT around it: two round trips fewer.
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction: committed at the end, rolled back by any exception.

        Raises:
            DatabaseUnavailable: the server, or a free connection to it, cannot be had.
        """
        try:
            async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except _GONE:
            raise DatabaseUnavailable("the database cannot be reached at the moment; try again") from None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for a single statement that only reads.

        Raises:
            DatabaseUnavailable: the server, or a free connection to it, cannot be had.
        """
        try:
            async with AsyncSession(self._reading, expire_on_commit=False) as session:
                yield session
        except _GONE:
            raise DatabaseUnavailable("the database cannot be reached at the moment; try again") from None

    async def ping(self) -> bool:
        """Whether the database answers, within 2 seconds."""
        try:
            async with asyncio.timeout(_PING_TIMEOUT_S), self.reading() as session:
                await session.execute(text("SELECT 1"))
        except (DatabaseUnavailable, TimeoutError):
            return False
        return True

    async def dispose(self) -> None:
        """Close the connections."""
        await self._engine.dispose()


@contextmanager
def sync_session(settings: Settings) -> Iterator[Session]:
    """A session in a transaction for commands: opens the database, commits at the end, closes it again.

    Raises:
        SettingsError, DatabaseUnavailable: see :func:`open_database`.
    """
    lease = open_database(settings)
    engine = create_engine(lease.url, poolclass=NullPool, hide_parameters=True)
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session
    except (OperationalError, InterfaceError):
        raise DatabaseUnavailable("the connection to the database was lost") from None
    finally:
        engine.dispose()
        lease.close()
