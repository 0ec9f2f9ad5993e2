"""Migrations, addresses, and a database that is not there; test_embedded.py has the embedded server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, CheckConstraint, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.service.support import Api, FakePipeline, StartApi, settings_for
from tunelab.errors import SettingsError
from tunelab.service.app import create_app
from tunelab.service.bootstrap import ensure_first_key
from tunelab.service.database import Database, _options, open_database
from tunelab.service.errors import DatabaseUnavailable
from tunelab.service.migrate import migrate
from tunelab.service.tables import Base
from tunelab.settings import load_settings


def test_migrations_make_the_tables_that_the_code_expects(empty_database: URL) -> None:
    migrate(empty_database)
    migrate(empty_database)
    engine = create_engine(empty_database, poolclass=NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        inspector = inspect(connection)
        for table in Base.metadata.tables.values():
            checks = {check["name"] for check in inspector.get_check_constraints(table.name)}
            expected = {check.name for check in table.constraints if isinstance(check, CheckConstraint)}
            assert checks == expected
        index = connection.scalar(text("SELECT indexdef FROM pg_indexes WHERE indexname = 'tracks_embedding'"))
        assert "USING hnsw (embedding halfvec_cosine_ops)" in index
    engine.dispose()


def test_replicas_that_start_together_migrate_once(empty_database: URL) -> None:
    code = "import sys; from sqlalchemy import make_url; from tunelab.service.migrate import migrate; "
    code += "migrate(make_url(sys.argv[1]))"
    url = empty_database.render_as_string(hide_password=False)
    processes = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(2)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(migrate, [empty_database] * 3))
    assert [process.wait(60) for process in processes] == [0, 0]


def test_database_of_a_newer_version_is_refused(empty_database: URL) -> None:
    migrate(empty_database)
    engine = create_engine(empty_database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(SettingsError, match="newer version"):
        migrate(empty_database)


def test_user_without_rights_is_told(empty_database: URL) -> None:
    engine = create_engine(empty_database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS tunelab_guest"))
        connection.execute(text("CREATE ROLE tunelab_guest LOGIN"))
    engine.dispose()
    with pytest.raises(SettingsError, match="may not create"):
        migrate(empty_database.set(username="tunelab_guest"))


def test_ledger_is_append_only(run_api: Any, session: Session) -> None:
    async def scenario(api: Api) -> None:
        await api.analyze(b"x")

    run_api(scenario)
    for statement in ("UPDATE ledger SET delta = 0", "DELETE FROM ledger", "UPDATE accounts SET balance = -1"):
        with pytest.raises(DBAPIError, match=r"append-only|balance_not_negative"), session.begin_nested():
            session.execute(text(statement))


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("postgresql://tunelab:sekret@127.0.0.1:1/music", DatabaseUnavailable),
        ("postgres://tunelab@127.0.0.1:1/music?password=sekret", DatabaseUnavailable),
        ("postgresql://tunelab:sekret@host:port/music", SettingsError),
        ("mysql://tunelab:sekret@host/music", SettingsError),
    ],
)
def test_wrong_url_is_a_clear_error_without_the_password(url: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        open_database(load_settings(database_url=url))
    assert "sekret" not in str(caught.value)
    chain, cause = [], caught.value.__cause__
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__
    assert not any("sekret" in message for message in chain)


def test_app_does_not_start_without_its_database(tmp_path: Path) -> None:
    url = URL.create("postgresql", "tunelab", "sekret", "127.0.0.1", 1, "music")
    app = create_app(FakePipeline, settings_for(url, tmp_path))

    async def main() -> None:
        with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1"):
            async with app.router.lifespan_context(app):
                pass

    asyncio.run(main())


def test_database_that_goes_away_is_a_503_and_comes_back(start_api: StartApi, database: URL, server: URL) -> None:
    admin = create_engine(server.set(database="postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def allow(connections: bool) -> None:
        with admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS {connections}"))
            kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            connection.execute(kill, {"name": database.database})

    async def main() -> None:
        async with start_api() as api:
            assert (await api.analyze(b"x")).status_code == 200
            allow(False)
            for answer in (await api.analyze(b"y"), await api.client.get("/v1/account", headers=api.auth())):
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
                assert answer.headers["retry-after"]
            assert (await api.client.get("/readyz")).json()["detail"] == "not ready: database"
            assert (await api.client.get("/healthz")).status_code == 200
            allow(True)
            assert (await api.analyze(b"y")).status_code == 200

            async def lose(data: bytes) -> None:
                allow(False)

            api.pipeline.behaviour = lose
            assert (await api.analyze(b"z")).status_code == 503
            allow(True)
            assert await api.credits() == 90

    asyncio.run(main())
    admin.dispose()


def test_first_key_is_made_once(database: URL, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path, signup_tier="pro", signup_credits=7)
    keys: list[str | None] = []
    threads = [threading.Thread(target=lambda: keys.append(ensure_first_key(settings))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (key,) = [key for key in keys if key]

    async def main() -> None:
        import httpx

        app = create_app(FakePipeline, settings)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://tunelab.test") as client:
                answer = await client.get("/v1/account", headers={"Authorization": f"Bearer {key}"})
        assert answer.json()["tier"] == "pro"
        assert answer.json()["credits"] == 7

    asyncio.run(main())


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ({}, ()),
        ({"options": "-c search_path=mine"}, ("-c search_path=mine",)),
        ({"options": ("-ca=1", "-cb=2")}, ("-ca=1", "-cb=2")),
    ],
)
def test_what_an_address_asks_for_is_kept_beside_our_settings(query: dict[str, Any], first: tuple[str, ...]) -> None:
    url = URL.create("postgresql+psycopg", database="x", query=query)
    assert _options(url).startswith(" ".join((*first, "-c statement_timeout=")))


def test_a_schema_of_ones_own_is_used_by_requests(database: URL) -> None:
    async def scenario() -> str:
        opened = Database(database.update_query_dict({"options": "-csearch_path=pg_catalog"}), 1)
        try:
            async with opened.reading() as session:
                return str((await session.execute(text("SHOW search_path"))).scalar_one())
        finally:
            await opened.dispose()

    assert asyncio.run(scenario()) == "pg_catalog"
