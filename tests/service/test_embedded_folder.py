"""The files of the embedded server: seen from another container, half made, and whose they are."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.embedded_support import USER, finish, kill, no_server_left, servers_of, start_user, unused_pid
from tunelab.errors import SettingsError
from tunelab.service import embedded as embedded_module
from tunelab.service import postgres_files as files
from tunelab.service.embedded import EmbeddedPostgres

ELSEWHERE = ["unshare", "--pid", "--fork", "--mount-proc"]
"""Runs a command as in another container: it numbers processes of its own."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with no_server_left(tmp_path):
        yield tmp_path


def open_and_close(folder: Path) -> None:
    use = EmbeddedPostgres(folder)
    use.open()
    use.close()


def test_server_that_is_no_process_here_is_left_alone_while_it_answers(folder: Path) -> None:
    first = EmbeddedPostgres(folder)
    first.open()
    (server,) = servers_of(folder / "postgres")
    path = folder / "postgres" / "postmaster.pid"
    right = path.read_text()
    lines = right.splitlines(keepends=True)
    lines[0] = f"{unused_pid()}\n"
    # The folder has another path in that container, perhaps.
    for socket in (lines[4], "/somewhere/else\n"):
        foreign = "".join([*lines[:4], socket, *lines[5:]])
        path.write_text(foreign)
        with pytest.raises(SettingsError, match="in use from another container"):
            EmbeddedPostgres(folder).open()
        with pytest.raises(SettingsError, match="in use from another container"):
            first.revive()
        assert path.read_text() == foreign
        assert (folder / "postgres" / ".s.PGSQL.5432.lock").exists()
    assert servers_of(folder / "postgres") == [server]
    path.write_text(right)
    open_and_close(folder)
    first.close()


def test_another_container_is_refused(folder: Path) -> None:
    try:
        allowed = subprocess.run([*ELSEWHERE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("needs the right to make a PID namespace")

    def refused() -> bool:
        command = [*ELSEWHERE, sys.executable, "-c", USER, str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return result.returncode != 0 and "in use from another container" in result.stderr

    here = start_user(folder)
    assert refused()
    # It may be about to be started again.
    (server,) = servers_of(folder / "postgres")
    kill(server)
    assert refused()
    again = start_user(folder)
    # Nobody uses it any more, but it is alive.
    finish(here, kill=True)
    finish(again, kill=True)
    (server,) = servers_of(folder / "postgres")
    assert refused()
    assert servers_of(folder / "postgres") == [server]
    # Everything here has ended.
    kill(server)
    assert not refused()
    open_and_close(folder)


def test_first_start_that_was_killed_is_begun_anew(folder: Path) -> None:
    half = folder / "postgres"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with pytest.raises(SettingsError, match="does not start"):
        EmbeddedPostgres(folder).open()
    assert (half / "PG_VERSION").exists()

    marker = folder / "postgres.unfinished"
    marker.touch()
    open_and_close(folder)
    assert not marker.exists()

    # Files that a server has run on are no half.
    version = (half / "PG_VERSION").stat().st_ino
    marker.touch()
    open_and_close(folder)
    assert not marker.exists()
    assert (half / "PG_VERSION").stat().st_ino == version


def test_first_start_is_marked_until_it_is_complete(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = embedded_module._library().PostgresServer
    marker = folder / "postgres.unfinished"

    def die(server: object) -> None:
        assert marker.exists()
        (folder / "postgres" / "PG_VERSION").write_text("18\n")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(postgres, "ensure_pgdata_inited", die)
        with pytest.raises(KeyboardInterrupt):
            EmbeddedPostgres(folder).open()
    assert marker.exists()
    open_and_close(folder)
    assert not marker.exists()


def test_files_that_are_not_ours_are_no_first_start(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "precious").touch()
    for _ in range(2):
        with pytest.raises(SettingsError, match="does not start"):
            EmbeddedPostgres(folder).open()
        assert (folder / "postgres" / "precious").exists()


def test_lock_file_of_another_user_of_the_machine_is_not_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fasteners  # type: ignore[import-untyped]

    (folder / "file").touch()
    lock = fasteners.InterProcessLock(folder / "file" / "lock")
    monkeypatch.setattr(embedded_module._library().PostgresServer, "_lock", lock)
    open_and_close(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a server of another user")
def test_folders_above_the_data_stay_unreadable(folder: Path) -> None:
    above = folder / "home"
    above.mkdir(mode=0o700)
    open_and_close(above / "data")
    assert stat.S_IMODE(above.stat().st_mode) == 0o710
    os.chown(above, 12345, 12345)
    above.chmod(0o700)
    open_and_close(above / "data")
    assert stat.S_IMODE(above.stat().st_mode) == 0o701
    assert servers_of(above / "data" / "postgres") == []


def test_only_rights_that_lack_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "wheel"
    (wheel / "bin").mkdir(parents=True)
    (wheel / "bin" / "postgres").touch(0o700)
    (wheel / "bin").chmod(0o700)
    tmp_path.chmod(0o700)
    files.make_reachable(wheel)
    files.make_readable(wheel, 0o055)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o710
    assert stat.S_IMODE((wheel / "bin").stat().st_mode) == 0o755
    assert stat.S_IMODE((wheel / "bin" / "postgres").stat().st_mode) == 0o755
    # Some disks allow no change, not even one to what is.
    monkeypatch.delattr(Path, "chmod")
    files.make_reachable(wheel)
    files.make_readable(wheel, 0o055)
