"""What the files of a PostgreSQL tell: whether it is alive, whose it is, and what a killed one left behind.

A process id says little by itself. The folder may be mounted in two containers, which number their processes apart; and
ids begin again where a container or machine does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tunelab.errors import SettingsError

_PORT_LINE, _SOCKET_LINE, _STATUS_LINE = 3, 4, 7
"""Lines of ``postmaster.pid``; the first is the process id."""
_ORPHANS_TIMEOUT_S = 30.0
_SHUTDOWNS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))
"""As ``pg_ctl stop`` does it, with its patience; then at once, which the next start has to recover from."""


def place() -> str:
    """Whose process ids mean the same as here: the PID namespace, in this run of the kernel."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def in_use(pgdata: Path) -> SettingsError:
    return SettingsError(f"the database in {pgdata} is in use from another container: run the command in that one")


def join(users: int, pgdata: Path) -> bool:
    """Share the lock of those who use the server in ``pgdata``; the file tells from where they do.

    Returns:
        Whether nobody else holds it.

    Raises:
        SettingsError: they are elsewhere, and so is their server: it cannot be told from here whether it lives.
    """
    mine = place().encode()
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if os.pread(users, 4096, 0) != mine:
            raise in_use(pgdata) from None
        alone = False
    else:
        os.ftruncate(users, 0)
        os.pwrite(users, mine, 0)
        alone = True
    fcntl.flock(users, fcntl.LOCK_SH)
    return alone


def postmaster(pgdata: Path) -> psutil.Process | None:
    """The server of this folder, if it is alive and a process here."""
    try:
        process = psutil.Process(int(_lines(pgdata)[0]))
        command = process.cmdline()  # none of a zombie
        program, folder = Path(command[0]).name, command[command.index("-D") + 1]
        return process if program == "postgres" and os.path.samefile(folder, pgdata) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def is_ready(pgdata: Path) -> bool:
    """Whether the server said that it takes connections: not while it starts, recovers or stops."""
    try:
        return _lines(pgdata)[_STATUS_LINE].strip() == "ready"
    except (OSError, IndexError):
        return False


def socket_folder(pgdata: Path) -> str:
    return _lines(pgdata)[_SOCKET_LINE]


def _lines(pgdata: Path) -> list[str]:
    return (pgdata / "postmaster.pid").read_text(errors="replace").splitlines()


def stop(process: psutil.Process) -> bool:
    """Shut a server down, and say whether it has ended."""
    try:
        for number, patience in _SHUTDOWNS:
            process.send_signal(number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                    return True
                time.sleep(0.02)
    except psutil.NoSuchProcess:
        return True
    return False


def remove_stale_locks(pgdata: Path) -> None:
    """Remove what a killed server left behind, also when its process id is a zombie's or another program's by now.

    The first happens under an init that does not reap, the second in a restarted container; PostgreSQL itself would
    refuse to start.

    Raises:
        SettingsError: it is alive in another container, or processes of it are.
    """
    try:
        lines = _lines(pgdata)
    except FileNotFoundError:
        return
    if postmaster(pgdata) is not None:
        return
    port = lines[_PORT_LINE].strip() if len(lines) > _PORT_LINE else ""
    name = f".s.PGSQL.{port or 5432}"
    # The folder may have another path there. What it is called here is looked at, too.
    sockets = {pgdata / name}
    if len(lines) > _SOCKET_LINE and lines[_SOCKET_LINE].strip():
        sockets.add(Path(lines[_SOCKET_LINE]) / name)
    if any(_answers(path) for path in sockets):
        raise in_use(pgdata)
    wait_for_orphans(pgdata)
    (pgdata / "postmaster.pid").unlink(missing_ok=True)
    for path in sockets:
        path.with_name(f"{name}.lock").unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Whether a server listens: the kernel refuses for a killed one, and accepts even for one that is paused."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EACCES)  # too many at its door, or not for us to ask
        return True


def wait_for_orphans(pgdata: Path) -> None:
    """Wait for the children of a killed server: they notice soon, and two servers must never write one folder.

    Raises:
        SettingsError: they are still there.
    """
    deadline = time.monotonic() + _ORPHANS_TIMEOUT_S
    while any(_works_in(process, pgdata) for process in psutil.process_iter(["name", "cmdline"])):
        if time.monotonic() > deadline:
            raise SettingsError("processes of a killed PostgreSQL still use the data folder")
        time.sleep(0.05)


def _works_in(process: psutil.Process, pgdata: Path) -> bool:
    if process.info["name"] not in ("postgres", "initdb"):
        return False
    folder = pgdata.resolve()
    try:
        return str(folder) in (process.info["cmdline"] or []) or Path(process.cwd()) == folder
    except (psutil.Error, OSError):
        return False


def make_reachable(path: Path) -> None:
    """Let the server's own user, where we are root, pass through the folders above; it need not list them.

    The server keeps our groups, so that a folder of one of them looks at what it grants its group.
    """
    groups = {os.getegid(), *os.getgroups()}
    for folder in path.parents:
        _allow(folder, stat.S_IXGRP if folder.stat().st_gid in groups else stat.S_IXOTH)


def make_readable(path: Path, wanted: int) -> None:
    """Give the bits ``wanted`` to all files below, and let everybody read the folders."""
    readable = stat.S_IRGRP | stat.S_IROTH | stat.S_IXGRP | stat.S_IXOTH
    _allow(path, readable)
    for folder, folders, names in os.walk(path):
        for name in folders:
            _allow(Path(folder, name), readable)
        for name in names:
            _allow(Path(folder, name), wanted)


def _allow(path: Path, wanted: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & wanted != wanted:  # what needs no change may be on a disk that allows none
        path.chmod(mode | wanted)


def sync(folder: Path) -> None:
    """Make the names in a folder last, also where the power fails."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file alone."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
