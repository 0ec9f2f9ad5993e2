"""A real PostgreSQL for the session, an empty migrated database for each test, and the service on a fake pipeline."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.service.classifier_support import child
from tests.service.similar_support import add, through_index
from tests.service.support import CARD, Api, FakePipeline, StartApi, settings_for
from tunelab.service.accounts import create_account
from tunelab.service.app import create_app
from tunelab.service.embedded import EmbeddedPostgres
from tunelab.service.migrate import migrate
from tunelab.settings import Settings

__all__ = ["add", "child", "through_index"]  # fixtures of some of the tests


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A PostgreSQL with one migrated database, the template of the others."""
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("tunelab"))
    url = embedded.open()
    migrate(url)
    yield url
    embedded.close()


@pytest.fixture(scope="session")
def _admin(server: URL) -> Iterator[Engine]:
    engine = create_engine(server.set(database="postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        # The tests do not pull plugs; the one that kills the server has a server of its own.
        connection.execute(text("ALTER SYSTEM SET synchronous_commit = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield engine
    engine.dispose()


_number = itertools.count()


@pytest.fixture
def empty_database(server: URL, _admin: Engine) -> Iterator[URL]:
    """A database without any table."""
    yield from _database(server, _admin, template="template1")


@pytest.fixture
def database(server: URL, _admin: Engine) -> Iterator[URL]:
    """A database with tables and no rows."""
    yield from _database(server, _admin, template=str(server.database))


def _database(server: URL, admin: Engine, template: str) -> Iterator[URL]:
    name = f"test_{next(_number)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log"))
    yield server.set(database=name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def settings(database: URL, tmp_path: Path) -> Settings:
    return settings_for(database, tmp_path)


@pytest.fixture
def session(database: URL) -> Iterator[Session]:
    """A synchronous session, for looking and for administration; commit what the service should see."""
    engine = create_engine(database, poolclass=NullPool)
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def start_api(database: URL, session: Session, pipeline: FakePipeline, tmp_path: Path) -> StartApi:
    """Start the service with accounts ``free`` and ``pro`` of 100 credits; settings may be overridden."""
    keys: dict[str, str] = {}

    @asynccontextmanager
    async def start(**overrides: Any) -> AsyncIterator[Api]:
        if not keys:
            for name in ("free", "pro"):
                keys[name] = create_account(session, name, tier=name, credits=100)[1]
            session.commit()
        app = create_app(lambda: pipeline, settings_for(database, tmp_path, **overrides), cards=[CARD])
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://tunelab.test") as client:
                yield Api(app, client, pipeline, keys)

    return start


@pytest.fixture
def run_api(start_api: StartApi) -> Callable[..., Any]:
    """Run ``scenario(api)`` against a fresh service, on an event loop of its own."""

    def run(scenario: Callable[[Api], Awaitable[Any]], **overrides: Any) -> Any:
        async def main() -> Any:
            async with start_api(**overrides) as api:
                return await scenario(api)

        return asyncio.run(main())

    return run
