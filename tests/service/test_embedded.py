"""The embedded server: shared, killed, started again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL
from sqlalchemy.exc import OperationalError

from tests.service.embedded_support import finish, kill, no_server_left, servers_of, start_user, unused_pid
from tunelab.errors import SettingsError
from tunelab.service import database as database_module
from tunelab.service import embedded as embedded_module
from tunelab.service.bootstrap import ensure_first_key
from tunelab.service.database import Database, DatabaseLease, open_database, stop_unused
from tunelab.service.embedded import EmbeddedPostgres
from tunelab.service.keys import is_key
from tunelab.settings import load_settings


def test_embedded_server_is_shared_survives_kills_and_ends_with_its_last_user(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    key = ensure_first_key(settings)
    assert key is not None
    assert is_key(key)
    assert ensure_first_key(settings) is None
    assert servers_of(tmp_path / "postgres") == []

    first, second = start_user(tmp_path), start_user(tmp_path)
    (server,) = servers_of(tmp_path / "postgres")
    finish(first, kill=True)
    assert server.is_running()
    finish(second)
    server.wait(10)

    # A user and the server are killed: the next user finds a stale pid file, recovers, and the data is there.
    third = start_user(tmp_path)
    (server,) = servers_of(tmp_path / "postgres")
    server.kill()
    finish(third, kill=True)
    assert (tmp_path / "postgres" / "postmaster.pid").exists()
    assert ensure_first_key(settings) is None
    assert servers_of(tmp_path / "postgres") == []

    # In a restarted container the old process id belongs to somebody else.
    (tmp_path / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    assert ensure_first_key(settings) is None


def test_embedded_server_that_dies_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_LOOK_AFTER_S", 0.05)
    lease = open_database(load_settings(data_dir=tmp_path))

    async def main() -> None:
        database, watch = Database(lease.url, 1), asyncio.create_task(lease.keep_up())
        assert await database.ping()
        (server,) = servers_of(tmp_path / "postgres")
        server.kill()
        deadline = time.monotonic() + 30
        # The pool comes back by itself: the socket is where it was.
        while server.is_running() or not await database.ping():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert servers_of(tmp_path / "postgres") != [server]
        watch.cancel()
        await database.dispose()
        # Where the data are gone, too, an empty database is no remedy.
        (server,) = servers_of(tmp_path / "postgres")
        server.kill()
        server.wait(10)
        version = tmp_path / "postgres" / "PG_VERSION"
        version.rename(tmp_path / "elsewhere")
        assert lease._embedded is not None
        with pytest.raises(SettingsError, match="is gone"):
            lease._embedded.revive()
        (tmp_path / "elsewhere").rename(version)
        assert lease._embedded.revive()

    try:
        asyncio.run(main())
    finally:
        lease.close()
    assert servers_of(tmp_path / "postgres") == []


def test_embedded_socket_is_closed_to_other_users(server: URL) -> None:
    socket = Path(str(server.query["host"])) / ".s.PGSQL.5432"
    assert socket.stat().st_mode & 0o077 == 0


def test_unusable_data_dir_is_a_settings_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SettingsError, match="TUNELAB_DATA_DIR"):
        open_database(load_settings(data_dir=file))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that is made once: the very first start takes longest."""
    folder = tmp_path_factory.mktemp("tunelab")
    use = EmbeddedPostgres(folder)
    use.open()
    use.close()
    return folder


@pytest.fixture
def folder(made: Path) -> Iterator[Path]:
    with no_server_left(made):
        yield made


def test_another_use_starts_a_server_that_was_killed_under_the_first(folder: Path) -> None:
    first, second = EmbeddedPostgres(folder), EmbeddedPostgres(folder)
    first.open()
    (server,) = servers_of(folder / "postgres")
    kill(server)
    second.open()
    assert not first.revive()
    second.close()
    assert len(servers_of(folder / "postgres")) == 1
    first.close()


@pytest.mark.parametrize("content", ["", "{gone}\n", "{alive}\n{folder}\n", "\0" * 64])
def test_leaving_a_server_that_died_is_quiet(folder: Path, content: str) -> None:
    use = EmbeddedPostgres(folder)
    use.open()
    (server,) = servers_of(folder / "postgres")
    kill(server)
    left = content.format(gone=unused_pid(), alive=os.getpid(), folder=folder)
    (folder / "postgres" / "postmaster.pid").write_text(left)
    use.close()
    use.open()
    use.close()


def test_leaving_a_folder_that_was_removed_is_quiet(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    use = EmbeddedPostgres(folder)
    use.open()
    folder.rename(folder.with_name("elsewhere"))
    use.close()
    assert "left alone" in caplog.text
    folder.with_name("elsewhere").rename(folder)
    assert use.stop_if_unused()


def test_another_program_with_the_id_of_the_server_is_not_stopped(folder: Path) -> None:
    use = EmbeddedPostgres(folder)
    use.open()
    path = folder / "postgres" / "postmaster.pid"
    right = path.read_text()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        path.write_text(right.replace(right.split("\n", 1)[0], str(stranger.pid), 1))
        use.close()
        assert stranger.poll() is None
        stranger.kill()
    path.write_text(right)
    assert use.stop_if_unused()


def test_server_whose_users_were_killed_is_stopped(folder: Path) -> None:
    settings = load_settings(data_dir=folder)
    stop_unused(load_settings(data_dir=folder / "nothing"))
    assert not (folder / "nothing").exists()
    killed, other = start_user(folder), start_user(folder)
    finish(killed, kill=True)
    assert not EmbeddedPostgres(folder).stop_if_unused()
    assert len(servers_of(folder / "postgres")) == 1
    # This one is about to end.
    timer = threading.Timer(0.5, other.kill)
    timer.start()
    stop_unused(settings)
    assert servers_of(folder / "postgres") == []
    timer.join()
    finish(other)


@pytest.mark.parametrize("shared", [False, True])
def test_server_of_a_start_that_fails_is_stopped_unless_others_use_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    def fail(url: URL) -> None:
        raise SettingsError("no room")

    first, second = EmbeddedPostgres(folder), EmbeddedPostgres(folder)
    if shared:
        first.open()
    monkeypatch.setattr(embedded_module, "_create_database", fail)
    with pytest.raises(SettingsError, match="no room"):
        second.open()
    assert len(servers_of(folder / "postgres")) == shared
    first.close()


def test_server_that_takes_long_to_start_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = embedded_module._library().PostgresServer
    start = postgres.ensure_postgres_running
    path = folder / "postgres" / "postmaster.pid"

    def tell(text: str) -> None:
        # As the server does it: the file is never empty, which would be that of a server that has ended.
        with path.open("r+") as file:
            file.write(text)
            file.flush()
            file.truncate()

    def start_slowly(server: Any) -> None:
        start(server)
        ready = path.read_text()
        tell(ready.replace("ready", "starting"))
        threading.Timer(0.5, tell, (ready,)).start()
        raise subprocess.TimeoutExpired("pg_ctl", 10)

    monkeypatch.setattr(postgres, "ensure_postgres_running", start_slowly)
    use = EmbeddedPostgres(folder)
    use.open()
    use.close()


def test_database_that_cannot_be_made_is_a_settings_error(tmp_path: Path) -> None:
    url = URL.create("postgresql+psycopg", "postgres", database="postgres", query={"host": str(tmp_path)})
    with pytest.raises(SettingsError, match=r"embedded PostgreSQL cannot be used: .*No such file"):
        embedded_module._create_database(url)


def test_watch_goes_on_whatever_happens(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(database_module, "_LOOK_AFTER_S", 0.001)
    done = threading.Event()

    class Failing(EmbeddedPostgres):
        outcomes = iter([OperationalError("SELECT 1", {}, Exception("in recovery mode")), SettingsError("full"), True])

        def revive(self) -> bool:
            outcome = next(self.outcomes, None)
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is None:
                done.set()
            return bool(outcome)

    async def main() -> None:
        watch = asyncio.create_task(DatabaseLease(URL.create("postgresql"), Failing(Path("."))).keep_up())
        assert await asyncio.to_thread(done.wait, 10)
        assert not watch.done()
        watch.cancel()

    asyncio.run(main())
    assert "in recovery mode" in caplog.text
    assert "has died: full" in caplog.text
    assert "was started again" in caplog.text
